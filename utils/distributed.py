"""Where a process stands among its peers; a process alone gets the identity of every exchange."""

from __future__ import annotations

import gc
import inspect
import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from utils.errors import UserError

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

    def say(self, line: str) -> None:
        """Print `line`, once for all processes."""
        if self.is_main:
            print(line, flush=True)

    def sum(self, tensor: Tensor) -> Tensor:
        """Return `tensor` summed over the processes, in place."""
        return tensor

    def share(self, value: Any) -> Any:
        """Return rank 0's `value` on every process."""
        return value

    def gather(self, value: Any) -> list[Any]:
        """Return every process's `value`, by rank."""
        return [value]

    def loss_weight(self, samples: int) -> Tensor | float:
        """Return the factor that makes averaged gradients those of the mean over all samples.

        `samples` is this process's share of the batch; it may differ between processes.
        """
        return 1.0

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return `model` with its gradients averaged over the processes."""
        return model

    def average_statistics(self, model: nn.Module) -> None:
        """Average the running statistics of `model` over the processes, in place."""

    def barrier(self) -> None:
        """Wait for all processes."""

    def close(self) -> None:
        """Leave the process group."""


class ProcessGroup(World):
    """One of several processes in torch's default process group."""

    def sum(self, tensor: Tensor) -> Tensor:
        dist.all_reduce(tensor)
        return tensor

    def share(self, value: Any) -> Any:
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def loss_weight(self, samples: int) -> Tensor:
        share = torch.full((), float(samples), device=self.device)
        return share * self.size / self.sum(share.clone())

    def wrap(self, model: nn.Module) -> nn.Module:
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices, **_KEEP_BUFFERS)

    def average_statistics(self, model: nn.Module) -> None:
        kept = model.state_dict(keep_vars=True)
        for name, buffer in model.named_buffers():
            if name in kept and buffer.is_floating_point():
                self.sum(buffer).div_(self.size)

    def barrier(self) -> None:
        dist.barrier()

    def close(self) -> None:
        # A wrapped model lives on in a cycle and keeps the group's threads, which abort a process
        # that ends while they let go of the last exchange. Without it the group waits for them.
        gc.collect()
        dist.destroy_process_group()


def single_process() -> World:
    """Return the world of one process, on the GPU if there is one."""
    return World(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def join(local_rank: int = -1) -> World:
    """Return the world that the launcher set up, or that of one process where there is none.

    `local_rank` is what the older launcher passes on the command line; torchrun's environment
    holds the same. Raises `UserError` where a launcher is missing or asks for too many GPUs.
    """
    if "WORLD_SIZE" not in os.environ:
        if local_rank >= 0:
            raise UserError("--local_rank is the launcher's to give: start with torchrun")
        return single_process()
    device = _local_device(int(os.environ.get("LOCAL_RANK", max(local_rank, 0))))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return ProcessGroup(device, dist.get_rank(), dist.get_world_size())


def connect(url: str, backend: str, rank: int, size: int, device: torch.device) -> World:
    """Return the world of process `rank` of `size`, which meet at `url` (`--dist-url`).

    Raises `UserError` where they cannot: a port in use, an address that is none.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group(backend, init_method=url, rank=rank, world_size=size)
    except (RuntimeError, ValueError, OSError) as error:  # sockets fail in all of these
        reason = str(error).splitlines()[0]
        raise UserError(f"--dist-url {url}: cannot meet there ({reason})") from error
    return ProcessGroup(device, rank, size)


def _local_device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"--nproc_per_node asks for more processes than the {torch.cuda.device_count()} "
            "GPUs here: start one process a GPU"
        )
    return torch.device("cuda", local_rank)
