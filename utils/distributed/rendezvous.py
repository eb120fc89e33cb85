"""How processes find each other: a store that one of them, or the launcher, serves."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Sequence
from datetime import timedelta

import torch.distributed as dist

from utils.system.errors import UserError

PATIENCE = 20.0  # seconds before those who are late are named
_PAUSE = 0.05  # seconds between two looks
_FAREWELL = 5.0  # seconds that others get to hear of an error


def meet(host: str, port: int, rank: int, size: int, timeout: float) -> dist.Store:
    """Return a store that all `size` processes, met at `host:port`, have to themselves.

    A launcher that starts processes again keeps serving the store of those before, whose keys
    would mislead these. So process 0 makes up a new prefix and hands it to each of the others,
    under a word that this one made up. Raises `UserError` naming who has not come `timeout`
    seconds later, and `dist.DistError`, RuntimeError, ValueError or OSError where there is no
    such place.
    """
    served = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and (host, str(port)) == (
        os.environ.get("MASTER_ADDR"),
        os.environ.get("MASTER_PORT"),
    )
    socket.getaddrinfo(host, port)  # a name that is none: torch would look for it until the timeout
    if rank > 0:
        _find(host, port, rank, size, timeout)
    store = dist.TCPStore(
        host,
        port,
        is_master=rank == 0 and not served,
        timeout=timedelta(seconds=timeout),
        wait_for_workers=False,
        multi_tenant=True,
    )
    prefix = _welcome(store, size, timeout) if rank == 0 else _knock(store, rank, size, timeout)
    return dist.PrefixStore(prefix, store)


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def tell(store: dist.Store, key: str, error: str, ranks: Sequence[int]) -> None:
    """Let others hear of an `error`, or of none; an error reaches `ranks` before this returns.

    The store may end with this process, which an error does.
    """
    store.set(key, error)
    if error:
        wait(store, [f"{key}/heard/{rank}" for rank in ranks], _FAREWELL)


def hear(store: dist.Store, key: str, rank: int, seconds: float) -> bool:
    """Wait for what is told as `key`; return whether it came in time. Raises it as `UserError`."""
    if not wait(store, [key], seconds):
        return False
    if error := store.get(key).decode():
        store.set(f"{key}/heard/{rank}", "")
        raise UserError(error)
    return True


def wait(store: dist.Store, keys: list[str], seconds: float) -> bool:
    """Wait for `keys`; return whether all came in time."""
    try:
        store.wait(keys, timedelta(seconds=seconds))
    except RuntimeError as error:
        if "timeout" in str(error) or "timed out" in str(error):
            return False
        raise
    return True


def _find(host: str, port: int, rank: int, size: int, timeout: float) -> None:
    """Wait until somebody listens at `host:port`: torch's own wait ends in a page of C++."""
    started = time.monotonic()
    while True:
        try:
            socket.create_connection((host, port), timeout).close()
            return
        except OSError as error:
            if time.monotonic() - started > timeout:
                raise UserError(
                    f"--timeout {timeout:g}: process {rank} of {size} found nobody at {host}:{port}"
                    f" ({error.strerror or error}); process 0 should listen there: see its output"
                ) from error
        time.sleep(_PAUSE)


def _knock(store: dist.Store, rank: int, size: int, timeout: float) -> str:
    """Ask process 0 for the prefix, then wait for the others."""
    word = uuid.uuid4().hex
    store.set(f"knock/{rank}", word)
    vain = f"--timeout {timeout:g}: process {rank} of {size} waited for process 0 in vain"
    if not wait(store, [f"welcome/{word}"], timeout):
        raise UserError(f"{vain}; see its output, or wait longer")
    prefix = store.get(f"welcome/{word}").decode()
    store.set(f"{prefix}/here/{rank}", "")
    if not hear(store, f"{prefix}/complete", rank, timeout + _FAREWELL):
        raise UserError(f"{vain}; see its output, or wait longer")
    return prefix


def _welcome(store: dist.Store, size: int, timeout: float) -> str:
    """Answer those who knock until all are here; name the late, and at the end the absent."""
    prefix, started, patience = uuid.uuid4().hex, time.monotonic(), PATIENCE
    absent = list(range(1, size))
    while absent:
        for rank in absent:
            if store.check([f"knock/{rank}"]):
                store.set(f"welcome/{store.get(f'knock/{rank}').decode()}", prefix)
        absent = [rank for rank in absent if not store.check([f"{prefix}/here/{rank}"])]
        waited = time.monotonic() - started
        if absent and waited > timeout:
            line = (
                f"--timeout {timeout:g}: {_listed(absent, size)} did not come; look for the error "
                "there, or wait longer"
            )
            tell(store, f"{prefix}/complete", line, sorted({*range(1, size)} - {*absent}))
            raise UserError(line)
        if absent and waited > patience:
            print(f"waiting for {_listed(absent, size)}", flush=True)
            patience *= 2
        time.sleep(_PAUSE if absent else 0)
    tell(store, f"{prefix}/complete", "", [])
    return prefix


def _listed(ranks: Sequence[int], size: int) -> str:
    shown = ", ".join(map(str, ranks[:8])) + ", ..." * (len(ranks) > 8)
    return f"process{'es' * (len(ranks) > 1)} {shown} of {size}"
