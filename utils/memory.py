"""What a step takes of a GPU's memory, and what to change when that is too much."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.run import Run

GIB = 2**30
_SPARE = 0.9  # of the memory: the rest goes to fragments and to the libraries
_PROBES = (2, 4)  # images; BatchNorm needs two
# What else might fit: engine, precision. A network without engines has a precision alone.
_WAYS = (("folded", "fp32"), ("folded", "bf16"), ("rate", "bf16"))

Peak = Callable[[Tensor, Tensor], int]


@dataclass(frozen=True)
class Need:
    """Bytes that a step takes: `fixed`, and so many more for `each` image."""

    fixed: float
    each: float

    def of(self, images: int) -> float:
        """Return the bytes of a step of so many images."""
        return self.fixed + self.each * images

    def most(self, room: float) -> int:
        """Return how many images fit into `room` bytes."""
        return max(0, int((room - self.fixed) / max(self.each, 1.0)))


def measure(images: Tensor, labels: Tensor, peak: Peak) -> Need:
    """Return the need of a step, which grows in proportion to the images, from two small ones."""
    few, more = _PROBES
    low, high = (peak(images[:n], labels[:n]) for n in _PROBES)
    each = (high - low) / (more - few)
    return Need(low - few * each, each)


def advice(run: Run) -> str:
    """Return a line that says how much memory other batches, engines and precisions would take.

    On a GPU that is estimated from steps of a few images; elsewhere nothing can be measured.
    """
    args, world = run.args, run.world
    flag, batch = _batch(run)
    line = (
        f"out of memory on the {world.device.type} with {flag} {batch}, {run.model.engine_line()}"
    )
    if world.device.type != "cuda" or getattr(args, "sync_bn", False):
        return f"{line}: lower {flag}, or try --engine folded and --precision bf16"
    room = _SPARE * torch.cuda.get_device_properties(world.device).total_memory
    hints = list(_hints(run, flag, batch, room))
    hints = hints or ["no batch fits: take a smaller network or fewer --timesteps"]
    return f"{line}. Estimated for {room / GIB:.1f} GiB: {'; '.join(hints)}"


def _hints(run: Run, flag: str, batch: int, room: float) -> Iterator[str]:
    """Yield what fits into `room` bytes, as things are and in other ways to compute."""
    images, labels = next(iter(run.data.train))
    images, labels = images[: max(_PROBES)], labels[: max(_PROBES)]
    processes, chosen = run.world.size, run.model.choice
    ways = [(None, None), *(_WAYS if hasattr(run.model, "setting") else ())]
    for engine, precision in ways:
        words = ""
        if engine:
            run.model.configure(engine=engine, precision=precision, compile="off")
            words = f"--engine {engine} --precision {precision} "
        need = measure(images, labels, lambda x, y: _peak(run.model, x, y))
        most = min(batch, need.most(room) * processes)
        if most >= max(_PROBES):
            yield f"{words}{flag} {most} needs {need.of(most // processes) / GIB:.1f} GiB"
    run.model.choice = chosen


def _peak(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Return the most bytes that a step held at once."""
    model.train()
    model.zero_grad(set_to_none=True)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(images.device)
    F.cross_entropy(model(images), labels).backward()
    return torch.cuda.max_memory_allocated(images.device)


def _batch(run: Run) -> tuple[str, int]:
    """Return the flag of the batch and its value, of all processes together."""
    args = run.args
    if hasattr(args, "batch_size"):
        return "--batch-size", args.batch_size
    return (
        ("--test-batch", args.test_batch) if args.evaluate else ("--train-batch", args.train_batch)
    )
