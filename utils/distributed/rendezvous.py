"""Rendezvous: all ranks find one store, served by rank 0 or by the launcher."""

from __future__ import annotations

import ipaddress
import os
import socket
import time
import uuid
from collections.abc import Sequence
from datetime import timedelta

import torch.distributed as dist

from utils.system.errors import UserError
from utils.system.text import print_line

PATIENCE = 20.0  # seconds before missing ranks are named
_POLL = 0.05  # seconds between two polls
_ACKNOWLEDGE = 5.0  # seconds that other ranks get to receive an error


def open_store(host: str, port: int, rank: int, size: int, timeout: float) -> dist.Store:
    """Return a store at `host:port` that only the `size` ranks of this run use.

    A launcher that restarts its processes keeps serving the same store, with the keys of the
    processes before. Rank 0 therefore draws a random prefix and gives it to each rank that asks
    with a random token of its own. At a loopback address it serves this machine only. Raises
    UserError naming the ranks that are missing after `timeout` seconds, and `dist.DistError`,
    RuntimeError, ValueError or OSError for an invalid address.
    """
    served = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and (host, str(port)) == (
        os.environ.get("MASTER_ADDR"),
        os.environ.get("MASTER_PORT"),
    )
    socket.getaddrinfo(host, port)  # torch would retry an unknown name until the timeout
    if rank > 0:
        _wait_for_listener(host, port, rank, size, timeout)
    store = dist.TCPStore(
        host,
        port,
        is_master=rank == 0 and not served,
        timeout=timedelta(seconds=timeout),
        wait_for_workers=False,
        multi_tenant=True,
        master_listen_fd=_loopback_listener(host, port) if rank == 0 and not served else None,
    )
    if rank == 0:
        prefix = _admit_ranks(store, size, timeout)
    else:
        prefix = _request_prefix(store, rank, size, timeout)
    return dist.PrefixStore(prefix, store)


def is_loopback(host: str) -> bool:
    """Return whether `host` is an address or a name of this machine that others cannot reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def free_port() -> int:
    """Return a TCP port of this machine on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def publish_outcome(store: dist.Store, key: str, error: str, ranks: Sequence[int]) -> None:
    """Set `key` to `error`, empty for success; wait until `ranks` have received an error.

    The store may end with this process, which exits after an error.
    """
    store.set(key, error)
    if error:
        wait_for_keys(store, [f"{key}/received/{rank}" for rank in ranks], _ACKNOWLEDGE)


def await_outcome(store: dist.Store, key: str, rank: int, seconds: float) -> bool:
    """Wait for `publish_outcome`; return False on timeout. Raises its error as UserError."""
    if not wait_for_keys(store, [key], seconds):
        return False
    if error := store.get(key).decode():
        store.set(f"{key}/received/{rank}", "")
        raise UserError(error)
    return True


def wait_for_keys(store: dist.Store, keys: list[str], seconds: float) -> bool:
    """Wait until all `keys` are set; return False on timeout."""
    try:
        store.wait(keys, timedelta(seconds=seconds))
    except RuntimeError as error:
        if "timeout" in str(error) or "timed out" in str(error):
            return False
        raise
    return True


def _loopback_listener(host: str, port: int) -> int | None:
    """Return a socket that listens at `host:port`, None unless that is a loopback address.

    Without it, torch's server listens on all interfaces, whatever the host.
    """
    if not is_loopback(host):
        return None
    family = socket.getaddrinfo(host, port)[0][0]
    return socket.create_server((host, port), family=family).detach()


def _wait_for_listener(host: str, port: int, rank: int, size: int, timeout: float) -> None:
    """Wait until something listens at `host:port`; torch's own wait ends in a C++ traceback."""
    started = time.monotonic()
    while True:
        try:
            socket.create_connection((host, port), timeout).close()
            return
        except OSError as error:
            if time.monotonic() - started > timeout:
                raise UserError(
                    f"--timeout {timeout:g}: rank {rank} of {size} found nothing at {host}:{port}"
                    f" ({error.strerror or error}); rank 0 should listen there: see its output"
                ) from error
        time.sleep(_POLL)


def _request_prefix(store: dist.Store, rank: int, size: int, timeout: float) -> str:
    """Ask rank 0 for the prefix, then wait for the other ranks."""
    token = uuid.uuid4().hex
    store.set(f"request/{rank}", token)
    no_answer = (
        f"--timeout {timeout:g}: rank {rank} of {size} got no answer from rank 0; see its output, "
        "or raise --timeout"
    )
    if not wait_for_keys(store, [f"prefix/{token}"], timeout):
        raise UserError(no_answer)
    prefix = store.get(f"prefix/{token}").decode()
    store.set(f"{prefix}/joined/{rank}", "")
    if not await_outcome(store, f"{prefix}/complete", rank, timeout + _ACKNOWLEDGE):
        raise UserError(no_answer)
    return prefix


def _admit_ranks(store: dist.Store, size: int, timeout: float) -> str:
    """Answer requests until all ranks have joined; print which are late, raise when time is up."""
    prefix, started, patience = uuid.uuid4().hex, time.monotonic(), PATIENCE
    missing = list(range(1, size))
    while missing:
        for rank in missing:
            if store.check([f"request/{rank}"]):
                store.set(f"prefix/{store.get(f'request/{rank}').decode()}", prefix)
        missing = [rank for rank in missing if not store.check([f"{prefix}/joined/{rank}"])]
        waited = time.monotonic() - started
        if missing and waited > timeout:
            line = (
                f"--timeout {timeout:g}: {_listed(missing, size)} did not start; look for the "
                "error there, or raise --timeout"
            )
            joined = sorted({*range(1, size)} - {*missing})
            publish_outcome(store, f"{prefix}/complete", line, joined)
            raise UserError(line)
        if missing and waited > patience:
            print_line(f"waiting for {_listed(missing, size)}")
            patience *= 2
        time.sleep(_POLL if missing else 0)
    publish_outcome(store, f"{prefix}/complete", "", [])
    return prefix


def _listed(ranks: Sequence[int], size: int) -> str:
    shown = ", ".join(map(str, ranks[:8])) + ", ..." * (len(ranks) > 8)
    return f"rank{'s' * (len(ranks) > 1)} {shown} of {size}"
