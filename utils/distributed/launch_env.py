"""Join the process group that a launcher, or the flags, describe."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from typing import NamedTuple
from urllib.parse import urlparse

import torch
import torch.distributed as dist

from utils.distributed.collective_errors import reason
from utils.distributed.rendezvous import is_loopback, open_store
from utils.distributed.world import TIMEOUT, ProcessGroup, World
from utils.system.errors import UserError

_INCOMPLETE = (
    "MASTER_ADDR, MASTER_PORT, RANK, WORLD_SIZE: set all four in the environment, as torchrun "
    "does, or none"
)
LARGEST_SIZE = 2**20  # processes
_LARGEST_PORT = 2**16 - 1


class Place(NamedTuple):
    """The rendezvous address `host:port`; `name` is how the user gave it."""

    name: str
    host: str
    port: int

    @classmethod
    def from_environment(cls) -> Place:
        """Return the address that a launcher put into the environment."""
        host, port = (os.environ.get(f"MASTER_{key}", "") for key in ("ADDR", "PORT"))
        if not host or not port:
            raise UserError(_INCOMPLETE)
        name = f"MASTER_ADDR:MASTER_PORT {host}:{port}"
        return cls(name, host, variable("MASTER_PORT", 1, _LARGEST_PORT))

    @classmethod
    def from_url(cls, url: str) -> Place:
        """Return the address in `tcp://<address>:<port>`; `env://` is that of a launcher."""
        if url == "env://":
            return cls.from_environment()
        try:
            parts = urlparse(url)
            scheme, host, port = parts.scheme, parts.hostname, parts.port
        except ValueError:
            scheme = host = port = None
        if scheme != "tcp" or not host or not port:
            raise UserError(f"--dist-url {url}: not an address; give tcp://<address>:<port>")
        return cls(f"--dist-url {url}", host, port)


def variable(name: str, least: int, most: int = LARGEST_SIZE, default: int | None = None) -> int:
    """Return the environment variable `name` of a launcher, an integer from `least` to `most`.

    Raises UserError for any other value, and where it is not set and has no `default`.
    """
    text = os.environ.get(name, "")
    if not text and default is not None:
        return default
    if not text:
        raise UserError(_INCOMPLETE)
    if not text.isdecimal() or not least <= int(text) <= most:
        raise UserError(
            f"{name}={text}: must be an integer from {least} to {most}, as torchrun sets it"
        )
    return int(text)


def single_process() -> World:
    """Return the world of one process, on the GPU if there is one."""
    return World(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def join(local_rank: int = -1, timeout: float = TIMEOUT) -> World:
    """Return the world that the launcher set up, or that of one process without a launcher.

    `local_rank` is what the older launcher passes on the command line; torchrun sets LOCAL_RANK.
    `timeout` (seconds) limits each collective and the wait for all ranks to start. Raises
    UserError for a missing launcher, more ranks than GPUs, or an incomplete environment.
    """
    if "WORLD_SIZE" not in os.environ:
        if local_rank >= 0:
            raise UserError("--local_rank is set by the launcher: start with torchrun")
        return single_process()
    size = variable("WORLD_SIZE", 1)
    rank = variable("RANK", 0, size - 1)
    device = _local_device(variable("LOCAL_RANK", 0, size - 1, default=max(local_rank, 0)))
    backend = "nccl" if device.type == "cuda" else "gloo"
    return _enter(Place.from_environment(), backend, rank, size, device, timeout)


def connect(
    url: str, backend: str, rank: int, size: int, device: torch.device, timeout: float = TIMEOUT
) -> World:
    """Return the world of rank `rank` of `size`, which rendezvous at `url` (`--dist-url`).

    Raises UserError for an invalid address, a port in use, or ranks that do not come in time.
    """
    return _enter(Place.from_url(url), backend, rank, size, device, timeout)


def _enter(
    place: Place, backend: str, rank: int, size: int, device: torch.device, timeout: float
) -> World:
    """Return the world of rank `rank` once all ranks have come to `place`."""
    # DistributedDataParallel imports this later, when the functions in it would keep the default
    # group as their default argument and thus alive forever: see `ProcessGroup.close`.
    import torch.distributed.nn  # noqa: F401

    if device.type == "cuda":
        torch.cuda.set_device(device)
    if is_loopback(place.host) or os.environ.get("LOCAL_WORLD_SIZE") == str(size):
        _listen_on_loopback()
    try:
        store = open_store(place.host, place.port, rank, size, timeout)
        limit = timedelta(seconds=timeout)
        group = dist.PrefixStore("group", store)
        dist.init_process_group(backend, store=group, rank=rank, world_size=size, timeout=limit)
    except (RuntimeError, ValueError, OSError) as error:  # failing sockets raise any of these
        raise UserError(f"{place.name}: cannot rendezvous there ({reason(error)})") from error
    return ProcessGroup(device, rank, size, store, timeout)


def _listen_on_loopback() -> None:
    """Let gloo, unless the user chose an interface, connect the ranks of one node by loopback."""
    names = {name for _, name in socket.if_nameindex()} & {"lo", "lo0"}  # Linux, macOS
    if names:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", names.pop())


def _local_device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"--nproc_per_node: more processes than the {torch.cuda.device_count()} GPUs here; "
            "start one per GPU"
        )
    return torch.device("cuda", local_rank)
