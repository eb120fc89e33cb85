"""Tell failed collectives from other errors: torch raises plain RuntimeErrors for them."""

from __future__ import annotations

import traceback

import torch.distributed as dist

_WORDS = ("gloo", "NCCL", "ProcessGroup", "Connection", "Broken pipe", "imed out", "pair closure")


def is_collective_error(error: RuntimeError) -> bool:
    """Return whether a collective raised `error`.

    The traceback tells where a collective was called from Python, the message where the backward
    pass of DistributedDataParallel started it.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    called = any(frame.f_globals.get("__name__") == dist.all_reduce.__module__ for frame in frames)
    return called or isinstance(error, dist.DistError) or any(word in str(error) for word in _WORDS)


def reason(error: Exception) -> str:
    """Return the first sentence of torch's message, without the location in its C++ source."""
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    line = line.rpartition(".cc:")[2].partition("] ")[2] or line
    return line.partition(". ")[0].rstrip(".")
