"""Where a process stands among its peers; a process alone gets the identity of every exchange."""

from __future__ import annotations

import gc
import inspect
import os
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any, NamedTuple
from urllib.parse import urlparse

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from utils.distributed.rendezvous import hear, meet, tell
from utils.system.errors import Stopped, UserError

TIMEOUT = 600  # seconds that an exchange may take, the wait for the slowest process included
PREPARING = 12 * 3600  # seconds that process 0 may take to download and convert
COMPRESSIONS = ("none", "bf16")
_NO_PLACE = (
    "MASTER_ADDR, MASTER_PORT, RANK, WORLD_SIZE: the environment must name all four, as torchrun "
    "does, or none"
)

# Training does not use the running statistics, so they travel once an epoch instead of at each
# forward. Newer versions of torch ask for that under another name.
_FORWARD_SYNC = "forward_sync_buffers"
_RENAMED = _FORWARD_SYNC in inspect.signature(DistributedDataParallel).parameters
_KEEP_BUFFERS = {_FORWARD_SYNC if _RENAMED else "broadcast_buffers": False}


@dataclass(frozen=True)
class World:
    """One process on one device; `ProcessGroup` replaces what differs for several."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes, downloads and prints."""
        return self.rank == 0

    def print_main(self, line: str) -> None:
        """Print `line`, once for all processes."""
        if self.is_main:
            print(line, flush=True)

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """Return `tensor` summed over the processes, in place."""
        return tensor

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's `value` on every process."""
        return value

    def all_gather(self, value: Any) -> list[Any]:
        """Return every process's `value`, by rank."""
        return [value]

    def all_reduce_min(self, number: int) -> int:
        """Return the least `number` of all processes."""
        return number

    def loss_weight(self, samples: int) -> Tensor | float:
        """Return the factor that makes averaged gradients those of the mean over all samples.

        `samples` is this process's share of the batch; it may differ between processes.
        """
        return 1.0

    def wrap(self, model: nn.Module, compression: str = "none") -> nn.Module:
        """Return `model` with its gradients averaged over the processes.

        They travel in buckets while the rest of the backward pass goes on; `compression` bf16
        halves what travels.
        """
        return model

    def no_exchange(self, model: nn.Module) -> AbstractContextManager:
        """Let gradients of the wrapped `model` add up here, to be averaged later."""
        return nullcontext()

    def run_on_main_first(self, work: Callable[[], None]) -> None:
        """Do `work` on rank 0 while the others wait; where it fails, they raise `UserError`."""
        work()

    def average_running_statistics(self, model: nn.Module) -> None:
        """Average the running statistics of `model` over the processes, in place."""

    def barrier(self) -> None:
        """Wait for all processes."""

    def close(self) -> None:
        """Leave the process group."""

    def __enter__(self) -> World:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, Stopped):
            self.close()


@dataclass(frozen=True)
class ProcessGroup(World):
    """One of several processes in torch's default process group, with a `store` to themselves.

    Used as a context, it raises `UserError` for an exchange that failed since a peer was gone or
    took longer than `timeout` seconds.
    """

    store: dist.Store | None = None
    timeout: float = TIMEOUT
    prepared: count = field(default_factory=count)

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        dist.all_reduce(tensor)
        return tensor

    def broadcast(self, value: Any) -> Any:
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def all_gather(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def all_reduce_min(self, number: int) -> int:
        box = torch.tensor(number, device=self.device)
        dist.all_reduce(box, dist.ReduceOp.MIN)
        return int(box)

    def loss_weight(self, samples: int) -> Tensor:
        share = torch.full((), samples, dtype=torch.float64, device=self.device)
        return share * self.size / self.all_reduce_sum(share.clone())

    def wrap(self, model: nn.Module, compression: str = "none") -> nn.Module:
        devices = [self.device] if self.device.type == "cuda" else None
        own = [buffer.clone() for buffer in model.buffers()]
        wrapped = DistributedDataParallel(model, device_ids=devices, **_KEEP_BUFFERS)
        for buffer, value in zip(model.buffers(), own, strict=True):
            buffer.copy_(value)  # rank 0's came over it: wrong in a run resumed within an epoch
        if compression == "bf16":
            wrapped.register_comm_hook(None, _average_in_bf16)
        return wrapped

    def no_exchange(self, model: DistributedDataParallel) -> AbstractContextManager:
        return model.no_sync()

    def run_on_main_first(self, work: Callable[[], None]) -> None:
        # Through the store: an exchange would have to end within its timeout.
        key = f"prepared/{next(self.prepared)}"
        if self.is_main:
            try:
                work()
            except Exception as error:
                line = str(error) if isinstance(error, UserError) else f"process 0: {error!r}"
                tell(self.store, key, line, range(1, self.size))
                raise
            tell(self.store, key, "", [])
        elif not hear(self.store, key, self.rank, PREPARING):
            raise UserError(
                f"process 0 has prepared the data for {PREPARING // 3600} h; prepare them with one "
                "process first"
            )

    def average_running_statistics(self, model: nn.Module) -> None:
        kept = model.state_dict(keep_vars=True)
        for name, buffer in model.named_buffers():
            if name in kept and buffer.is_floating_point():
                self.all_reduce_sum(buffer).div_(self.size)

    def barrier(self) -> None:
        dist.barrier()

    def close(self) -> None:
        # A wrapped model lives on in a cycle and keeps the group's threads, which abort a process
        # that ends while they let go of the last exchange. Without it they end with the group.
        gc.collect()
        dist.destroy_process_group()

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close()
        elif isinstance(error, Stopped):
            traceback.clear_frames(error.__traceback__)  # they hold the wrapped model
            self.close()
        elif isinstance(error, RuntimeError) and _is_failed_exchange(error):
            if dist.get_backend() == "gloo":  # NCCL's group would wait for the peer
                traceback.clear_frames(error.__traceback__)  # they hold the wrapped model
                self.close()
            raise UserError(
                f"process {self.rank} of {self.size} lost the others ({_reason(error)}): one of "
                f"them ended, or took longer than --timeout {self.timeout:g} s; its own output "
                "tells why. --resume auto goes on from the last checkpoint"
            ) from error


def _average_in_bf16(state, bucket):
    """Average a bucket of gradients in bf16, as a hook of DistributedDataParallel: it takes a
    `dist.GradBucket`, gives a future tensor, and refuses annotations that are strings.
    """
    gradients = bucket.buffer()
    share = gradients.to(torch.bfloat16).div_(dist.get_world_size())
    sent = dist.all_reduce(share, async_op=True).get_future()
    return sent.then(lambda done: gradients.copy_(done.value()[0]))


def _is_failed_exchange(error: RuntimeError) -> bool:
    """Whether an exchange raised `error`: by where it did, or (in a backward pass) by the text."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    asked = any(frame.f_globals.get("__name__") == dist.all_reduce.__module__ for frame in frames)
    known = (
        "gloo",
        "NCCL",
        "ProcessGroup",
        "Connection",
        "Broken pipe",
        "imed out",
        "pair closure",
    )
    return asked or isinstance(error, dist.DistError) or any(word in str(error) for word in known)


def _reason(error: Exception) -> str:
    """Return the first sentence of torch's message, without the place in its own source."""
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    line = line.rpartition(".cc:")[2].partition("] ")[2] or line
    return line.partition(". ")[0].rstrip(".")


class Place(NamedTuple):
    """Where processes meet, and how the user named it."""

    name: str
    host: str
    port: int

    @classmethod
    def of_launcher(cls) -> Place:
        """The place in the environment."""
        host, port = (os.environ.get(f"MASTER_{key}", "") for key in ("ADDR", "PORT"))
        if not host or not port.isdigit():
            raise UserError(_NO_PLACE)
        return cls(f"MASTER_ADDR:MASTER_PORT {host}:{port}", host, int(port))

    @classmethod
    def of_url(cls, url: str) -> Place:
        """The place `tcp://<address>:<port>`, or `env://` for that of a launcher."""
        if url == "env://":
            return cls.of_launcher()
        try:
            parts = urlparse(url)
            scheme, host, port = parts.scheme, parts.hostname, parts.port
        except ValueError:
            scheme = host = port = None
        if scheme != "tcp" or not host or not port:
            raise UserError(f"--dist-url {url}: cannot meet there, give tcp://<address>:<port>")
        return cls(f"--dist-url {url}", host, port)


def single_process() -> World:
    """Return the world of one process, on the GPU if there is one."""
    return World(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def join(local_rank: int = -1, timeout: float = TIMEOUT) -> World:
    """Return the world that the launcher set up, or that of one process where there is none.

    `local_rank` is what the older launcher passes on the command line; torchrun's environment
    holds the same. An exchange may take `timeout` seconds, and so may the slowest process to
    come. Raises `UserError` where a launcher is missing, asks for too many GPUs, or gives an
    environment in which processes cannot meet.
    """
    if "WORLD_SIZE" not in os.environ:
        if local_rank >= 0:
            raise UserError("--local_rank is the launcher's to give: start with torchrun")
        return single_process()
    device = _local_device(int(os.environ.get("LOCAL_RANK", max(local_rank, 0))))
    rank, size = (os.environ.get(key, "") for key in ("RANK", "WORLD_SIZE"))
    if not rank.isdigit() or not size.isdigit():
        raise UserError(_NO_PLACE)
    backend = "nccl" if device.type == "cuda" else "gloo"
    return _enter(Place.of_launcher(), backend, int(rank), int(size), device, timeout)


def connect(
    url: str, backend: str, rank: int, size: int, device: torch.device, timeout: float = TIMEOUT
) -> World:
    """Return the world of process `rank` of `size`, which meet at `url` (`--dist-url`).

    Raises `UserError` where they cannot: a port in use, an address that is none.
    """
    return _enter(Place.of_url(url), backend, rank, size, device, timeout)


def _enter(
    place: Place, backend: str, rank: int, size: int, device: torch.device, timeout: float
) -> World:
    """Return the world of process `rank`, once all have come to `place`."""
    # Loaded later, as DistributedDataParallel does, its functions would take the group for their
    # default argument, and it would never end: see `ProcessGroup.close`.
    import torch.distributed.nn  # noqa: F401

    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        store = meet(place.host, place.port, rank, size, timeout)
        limit = timedelta(seconds=timeout)
        group = dist.PrefixStore("group", store)
        dist.init_process_group(backend, store=group, rank=rank, world_size=size, timeout=limit)
    except (RuntimeError, ValueError, OSError) as error:  # sockets fail in all of these
        raise UserError(f"{place.name}: cannot meet there ({_reason(error)})") from error
    return ProcessGroup(device, rank, size, store, timeout)


def _local_device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"--nproc_per_node asks for more processes than the {torch.cuda.device_count()} "
            "GPUs here: start one process a GPU"
        )
    return torch.device("cuda", local_rank)
