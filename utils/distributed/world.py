"""The ranks of a run: collectives between them, which do nothing in a run of one process."""

from __future__ import annotations

import gc
import inspect
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from utils.distributed.collective_errors import is_collective_error, reason
from utils.distributed.rendezvous import await_outcome, publish_outcome
from utils.system.errors import Stopped, UserError
from utils.system.text import print_line

TIMEOUT = 600  # seconds that a collective may take, including the wait for the slowest rank
MAIN_FIRST_TIMEOUT = 12 * 3600  # seconds that rank 0 may take to download and convert data
COMPRESSIONS = ("none", "bf16")

# Training does not read the running statistics, so they are averaged once per epoch instead of
# broadcast in each forward pass. Newer versions of torch renamed the option.
_FORWARD_SYNC = "forward_sync_buffers"
_RENAMED = _FORWARD_SYNC in inspect.signature(DistributedDataParallel).parameters
_KEEP_BUFFERS = {_FORWARD_SYNC if _RENAMED else "broadcast_buffers": False}


@dataclass(frozen=True)
class World:
    """One process on one device; `ProcessGroup` overrides what differs with several."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes, downloads and prints."""
        return self.rank == 0

    def print_main(self, line: str) -> None:
        """Print `line` on rank 0."""
        if self.is_main:
            print_line(line)

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """Return `tensor` summed over the ranks, in place."""
        return tensor

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's `value` on every rank."""
        return value

    def all_gather(self, value: Any) -> list[Any]:
        """Return the `value` of every rank, by rank."""
        return [value]

    def all_reduce_min(self, number: int) -> int:
        """Return the smallest `number` of all ranks."""
        return number

    def loss_weight(self, samples: int) -> Tensor | float:
        """Return the factor of this rank's mean loss that makes averaged gradients exact.

        With it, the average over the ranks is the gradient of the mean loss over all samples of
        the batch. `samples` is this rank's number of them and may differ between ranks.
        """
        return 1.0

    def wrap(self, model: nn.Module, compression: str = "none") -> nn.Module:
        """Return `model` with its gradients averaged over the ranks.

        Buckets of gradients are all-reduced while the backward pass continues; `compression`
        "bf16" halves their bytes.
        """
        return model

    def no_sync(self, model: nn.Module) -> AbstractContextManager:
        """Return a context in which gradients of the wrapped `model` accumulate locally."""
        return nullcontext()

    def run_on_main_first(self, work: Callable[[], None]) -> None:
        """Call `work` on rank 0 while the others wait; if it fails, they raise UserError."""
        work()

    def average_running_statistics(self, model: nn.Module) -> None:
        """Average the running statistics of `model` over the ranks, in place."""

    def barrier(self) -> None:
        """Wait for all ranks."""

    def close(self) -> None:
        """Leave the process group."""

    def __enter__(self) -> World:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, Stopped):
            self.close()


@dataclass(frozen=True)
class ProcessGroup(World):
    """One rank of torch's default process group; `store` is shared by the ranks of this run.

    Used as a context manager, it raises UserError for a collective that failed because another
    rank ended or took longer than `timeout` seconds.
    """

    store: dist.Store | None = None
    timeout: float = TIMEOUT
    main_first_calls: count = field(default_factory=count)

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
        local = torch.full((), samples, dtype=torch.float64, device=self.device)
        return local * self.size / self.all_reduce_sum(local.clone())

    def wrap(self, model: nn.Module, compression: str = "none") -> nn.Module:
        devices = [self.device] if self.device.type == "cuda" else None
        local = [buffer.clone() for buffer in model.buffers()]
        wrapped = DistributedDataParallel(model, device_ids=devices, **_KEEP_BUFFERS)
        for buffer, value in zip(model.buffers(), local, strict=True):
            buffer.copy_(value)  # rank 0's replaced it: wrong in a run resumed within an epoch
        if compression == "bf16":
            wrapped.register_comm_hook(None, _average_in_bf16)
        return wrapped

    def no_sync(self, model: DistributedDataParallel) -> AbstractContextManager:
        return model.no_sync()

    def run_on_main_first(self, work: Callable[[], None]) -> None:
        # Through the store, since a collective would have to end within its timeout.
        key = f"main_first/{next(self.main_first_calls)}"
        if self.is_main:
            try:
                work()
            except Exception as error:
                line = str(error) if isinstance(error, UserError) else f"rank 0: {error!r}"
                publish_outcome(self.store, key, line, range(1, self.size))
                raise
            publish_outcome(self.store, key, "", [])
        elif not await_outcome(self.store, key, self.rank, MAIN_FIRST_TIMEOUT):
            raise UserError(
                f"rank 0 is still preparing the data after {MAIN_FIRST_TIMEOUT // 3600} h; prepare "
                "them with one process first"
            )

    def average_running_statistics(self, model: nn.Module) -> None:
        for buffer in running_statistics(model).values():
            self.all_reduce_sum(buffer).div_(self.size)

    def barrier(self) -> None:
        dist.barrier()

    def close(self) -> None:
        # A wrapped model is part of a reference cycle and keeps the group's threads alive. A
        # process that exits while these release the last collective aborts; once the model is
        # collected, they end with the group.
        gc.collect()
        dist.destroy_process_group()

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close()
        elif isinstance(error, Stopped):
            traceback.clear_frames(error.__traceback__)  # they reference the wrapped model
            self.close()
        elif isinstance(error, RuntimeError) and is_collective_error(error):
            if dist.get_backend() == "gloo":  # closing an NCCL group would wait for the lost rank
                traceback.clear_frames(error.__traceback__)  # they reference the wrapped model
                self.close()
            raise UserError(
                f"rank {self.rank} of {self.size} lost the other ranks ({reason(error)}): one of "
                f"them ended, or took longer than --timeout {self.timeout:g} s; see its own "
                "output. Continue from the last checkpoint with --resume auto"
            ) from error


def running_statistics(model: nn.Module) -> dict[str, Tensor]:
    """Return the running statistics of `model` by name: its persistent floating-point buffers."""
    saved = model.state_dict(keep_vars=True)
    return {
        name: buffer
        for name, buffer in model.named_buffers()
        if name in saved and buffer.is_floating_point()
    }


def _average_in_bf16(state, bucket):
    """Average a bucket of gradients over the ranks in bf16.

    A communication hook of DistributedDataParallel: takes a `dist.GradBucket` and returns a
    future of its tensor. Without annotations, since torch rejects postponed ones in a hook.
    """
    gradients = bucket.buffer()
    half = gradients.to(torch.bfloat16).div_(dist.get_world_size())
    reduced = dist.all_reduce(half, async_op=True).get_future()
    return reduced.then(lambda done: gradients.copy_(done.value()[0]))
