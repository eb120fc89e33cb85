"""Errors from outside a run: memory that runs out, with a remedy, and loader processes that die."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from utils.datasets.loader_workers import killed_worker_error
from utils.device.step_memory import (
    copy_to_meta,
    count_evaluation,
    count_training_step,
    largest_batch,
)
from utils.system.errors import UserError
from utils.training.context import RunContext

GIB = 2**30
_USABLE = 0.9  # of the memory: the rest goes to fragments and to the libraries
_CPU_MESSAGE = "can't allocate memory"
# Engine and precision of what else may fit.
_WAYS = (("folded", "fp32"), ("folded", "bf16"), ("rate", "bf16"))

Peak = Callable[[int], int]  # images per pass -> bytes


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


def advice(context: RunContext) -> str:
    """Return a line on how much memory other batches, engines and precisions would take.

    For a GPU that is counted (see `step_memory`); a CPU shares its memory with other programs.
    """
    device, accumulate = context.world.device, context.training.accumulate
    flag, batch = context.batch_flag
    line = f"out of memory on the {device.type} with {flag} {batch}, {context.model.engine_line()}"
    if device.type != "cuda" or context.engine.sync_bn:
        return f"{line}: lower {flag}, raise --accumulate, or try --engine folded --precision bf16"
    room = _USABLE * torch.cuda.get_device_properties(device).total_memory
    image = next(iter(context.data.train))[0][0]
    hints = [
        hint(peak, words, flag, batch, context.world.size, accumulate, room)
        for words, peak in _peaks(context, image)
    ]
    found = "; ".join(filter(None, hints)) or "no batch fits: take a smaller network"
    return f"{line}. Counted for {room / GIB:.1f} GiB: {found}"


def hint(
    peak: Peak, words: str, flag: str, batch: int, processes: int, parts: int, room: float
) -> str:
    """Return the largest batch up to `batch` that fits in `room` bytes on each of `processes`.

    The line is empty where not even the fewest images fit.
    """
    share = -(-batch // processes)
    most = -(-share // parts)
    if peak(most) > room:
        most = largest_batch(peak, room)
    if most == 0:
        return ""
    fits = min(batch, most * processes * parts)
    gib = peak(-(-fits // (processes * parts))) / GIB
    line = f"{words}{flag} {fits} needs {gib:.1f} GiB"
    return line if fits == batch else f"{line}, and {batch} --accumulate {-(-share // most)}"


def _peaks(context: RunContext, image: Tensor) -> Iterator[tuple[str, Peak]]:
    """Yield the flags of each way to compute, none for the one in use, with its peak of memory."""
    model, chosen = context.model, context.model.choice
    yield "", _peak(context, copy_to_meta(model), image)
    for engine, precision in _WAYS if hasattr(model, "setting") else ():  # an ANN has no engines
        if (engine, precision) == (chosen.name, chosen.precision):
            continue
        model.configure(engine=engine, precision=precision, compile="off")
        available, model.choice = model.choice.precision, chosen
        if available == precision:  # else the device has no such arithmetic
            other = copy_to_meta(model)
            compile = "on" if chosen.compiled else "off"
            other.configure(engine=engine, precision=precision, compile=compile)
            yield f"--engine {engine} --precision {precision} ", _peak(context, other, image)


def _peak(context: RunContext, model: nn.Module, image: Tensor) -> Peak:
    """Return the function from images per pass to the bytes that `model`, on meta, then takes."""
    flags = context.training
    parts = 1 if flags.accumulate == 1 else 2  # the gradients of one part are kept in the next
    several = context.world.size > 1
    exchanged = several * sum(p.numel() * p.element_size() for p in model.parameters())

    optimizer = context.build_optimizer(model)

    def peak(images: int) -> int:
        x = torch.empty(images * parts, *image.shape, device="meta")
        if flags.evaluate:
            return count_evaluation(model, x).peak
        y = torch.empty(len(x), dtype=torch.long, device="meta")
        return count_training_step(model, x, y, optimizer, parts).peak + exchanged

    return peak
