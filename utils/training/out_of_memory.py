"""Errors from outside a run: memory that runs out, with a remedy, and loader processes that die."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.datasets.loader_workers import killed_worker_error
from utils.system.errors import UserError
from utils.training.context import RunContext

GIB = 2**30
_USABLE = 0.9  # of the memory: the rest goes to fragments and to the libraries
_PROBES = (2, 4)  # images; BatchNorm needs two
_CPU_MESSAGE = "can't allocate memory"
# Engine and precision of what else may fit.
_WAYS = (("folded", "fp32"), ("folded", "bf16"), ("rate", "bf16"))

Peak = Callable[[Tensor, Tensor], int]


@contextmanager
def explain_failures(context: RunContext) -> Iterator[None]:
    """Turn memory that runs out and a loader process that dies into `UserError`."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        traceback.clear_frames(error.__traceback__)  # frees the tensors in their variables
        raise UserError(advice(context)) from None
    except RuntimeError as error:
        if fault := killed_worker_error(error, context.batching.workers):
            raise fault from error
        if _CPU_MESSAGE in str(error):
            raise UserError(advice(context)) from error
        raise


@dataclass(frozen=True)
class Need:
    """Bytes of memory of one step: `fixed` and `each` per image."""

    fixed: float
    each: float

    def of(self, images: int) -> float:
        """Return the bytes of a step of `images` images."""
        return self.fixed + self.each * images

    def most(self, room: float) -> int:
        """Return how many images fit in `room` bytes."""
        return max(0, int((room - self.fixed) / max(self.each, 1.0)))


def measure(images: Tensor, labels: Tensor, peak: Peak) -> Need:
    """Return the need of a step, linear in the images, from the `peak` of two small steps."""
    few, more = _PROBES
    low, high = (peak(images[:n], labels[:n]) for n in _PROBES)
    each = (high - low) / (more - few)
    return Need(low - few * each, each)


def advice(context: RunContext) -> str:
    """Return a line on how much memory other batches, engines and precisions would take.

    Training on a GPU is estimated from steps of a few images; otherwise nothing is measured.
    """
    device, accumulate = context.world.device, context.training.accumulate
    flag, batch = context.batch_flag
    line = f"out of memory on the {device.type} with {flag} {batch}, {context.model.engine_line()}"
    if device.type != "cuda" or context.training.evaluate or context.engine.sync_bn:
        return f"{line}: lower {flag}, raise --accumulate, or try --engine folded --precision bf16"
    room = _USABLE * torch.cuda.get_device_properties(device).total_memory
    images, labels = (part[: max(_PROBES)] for part in next(iter(context.data.train)))
    hints = [
        hint(need, words, flag, batch, context.world.size, accumulate, room)
        for words, need in _needs(context.model, images, labels)
    ]
    found = "; ".join(filter(None, hints)) or "no batch fits: take a smaller network"
    return f"{line}. Estimated for {room / GIB:.1f} GiB: {found}"


def hint(
    need: Need, words: str, flag: str, batch: int, processes: int, parts: int, room: float
) -> str:
    """Return the largest batch up to `batch` that fits in `room` bytes on each of `processes`.

    The line is empty where fewer images fit than a step is measured with.
    """
    most = need.most(room)
    if most < max(_PROBES):
        return ""
    share = -(-batch // processes)
    fits = min(batch, most * processes * parts)
    gib = need.of(-(-fits // (processes * parts))) / GIB
    line = f"{words}{flag} {fits} needs {gib:.1f} GiB"
    return line if fits == batch else f"{line}, and {batch} --accumulate {-(-share // most)}"


def _needs(model: nn.Module, images: Tensor, labels: Tensor) -> Iterator[tuple[str, Need]]:
    """Yield the flags of each way to compute, none for the one in use, with the need of a step."""

    def peak(x: Tensor, y: Tensor) -> int:
        return _peak(model, x, y)

    yield "", measure(images, labels, peak)
    chosen = model.choice
    for engine, precision in _WAYS if hasattr(model, "setting") else ():  # an ANN has no engines
        if (engine, precision) == (chosen.name, chosen.precision):
            continue
        model.configure(engine=engine, precision=precision, compile="off")
        if model.choice.precision == precision:  # else the device has no such arithmetic
            words = f"--engine {engine} --precision {precision} "
            yield words, measure(images, labels, peak)
    model.choice = chosen


def _peak(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Return the peak of allocated bytes in one step."""
    model.train()
    model.zero_grad(set_to_none=True)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(images.device)
    F.cross_entropy(model(images), labels).backward()
    return torch.cuda.max_memory_allocated(images.device)
