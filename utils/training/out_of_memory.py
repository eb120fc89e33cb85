"""What a step takes of a GPU's memory, and what to change when that is too much."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.training.context import Run

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

    For training on a GPU that is estimated from steps of a few images; else nothing is measured.
    """
    args, device = run.args, run.world.device
    flag, batch = _batch(run)
    line = f"out of memory on the {device.type} with {flag} {batch}, {run.model.engine_line()}"
    if device.type != "cuda" or args.evaluate or args.sync_bn:
        return f"{line}: lower {flag}, raise --accumulate, or try --engine folded --precision bf16"
    room = _SPARE * torch.cuda.get_device_properties(device).total_memory
    images, labels = (part[: max(_PROBES)] for part in next(iter(run.data.train)))
    hints = [
        hint(need, words, flag, batch, run.world.size, args.accumulate, room)
        for words, need in _needs(run, images, labels)
    ]
    found = "; ".join(filter(None, hints)) or "no batch fits: take a smaller network"
    return f"{line}. Estimated for {room / GIB:.1f} GiB: {found}"


def hint(
    need: Need, words: str, flag: str, batch: int, processes: int, parts: int, room: float
) -> str:
    """Return what of a `batch` over `processes` in `parts` fits into `room` bytes, and how.

    Nothing is returned where not even the few images do that BatchNorm needs.
    """
    most = need.most(room)
    if most < max(_PROBES):
        return ""
    share = -(-batch // processes)
    fits = min(batch, most * processes * parts)
    gib = need.of(-(-fits // (processes * parts))) / GIB
    line = f"{words}{flag} {fits} needs {gib:.1f} GiB"
    return line if fits == batch else f"{line}, and {batch} --accumulate {-(-share // most)}"


def _needs(run: Run, images: Tensor, labels: Tensor) -> Iterator[tuple[str, Need]]:
    """Yield flags of ways to compute, the present one first, with what a step then needs."""

    def peak(x: Tensor, y: Tensor) -> int:
        return _peak(run.model, x, y)

    yield "", measure(images, labels, peak)
    chosen = run.model.choice
    for engine, precision in _WAYS if hasattr(run.model, "setting") else ():
        if (engine, precision) == (chosen.name, chosen.precision):
            continue
        run.model.configure(engine=engine, precision=precision, compile="off")
        if run.model.choice.precision == precision:  # else this device has no such arithmetic
            words = f"--engine {engine} --precision {precision} "
            yield words, measure(images, labels, peak)
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
