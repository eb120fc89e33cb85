"""The elementwise passes of the folded engine: eager, or fused by the compiler."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

import torch

from models import dynamics

# Below this many elements a call costs more than what it computes; it also keeps the heads of the
# networks, whose shapes are their own, from being compiled.
SMALL = 1 << 17


class Kernels(NamedTuple):
    """The functions of `dynamics` that read a whole current."""

    fold: Callable = dynamics.fold
    spikes: Callable = dynamics.spikes
    means: Callable = dynamics.means
    centre_: Callable = dynamics.centre_by_step_
    add_: Callable = dynamics.add_by_step_
    covariance: Callable = dynamics.covariance


def compiled() -> Kernels:
    """The same functions, each compiled once for all batch and layer sizes (`dynamic=True`)."""
    whole = Kernels(centre_=dynamics.centre_, add_=dynamics.add_)
    pairs = zip(whole, Kernels(), strict=True)
    return Kernels(*(_above_small(torch.compile(f, dynamic=True), eager) for f, eager in pairs))


def _above_small(fused: Callable, eager: Callable) -> Callable:
    def call(y, *args):
        return (eager if y.numel() < SMALL else fused)(y, *args)

    return call


def compiler_fault(device: torch.device) -> str | None:
    """Why the compiler cannot be used on this device, in one line; None where it can."""
    quiet = logging.getLogger("torch._dynamo"), logging.getLogger("torch._inductor")
    levels = [log.level for log in quiet]
    try:
        for log in quiet:
            log.setLevel(logging.CRITICAL)
        torch.compile(lambda a: a * 2 + 1)(torch.ones(64, device=device))
    except Exception as error:  # the compiler's own failures are of many kinds
        return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    finally:
        for log, level in zip(quiet, levels, strict=True):
            log.setLevel(level)
    return None
