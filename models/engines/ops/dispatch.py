"""The passes of the folded engine over whole currents: eager, or fused by a compiler."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from models import dynamics
from models.engines.ops import native
from models.engines.ops.native_build import CompilerError

# Below this many elements a compiled call costs more than what it computes; it also keeps the heads
# of the networks, whose shapes are their own, from being compiled.
SMALL = 1 << 17


class Kernels(NamedTuple):
    """The functions of `dynamics` that read a whole current."""

    fold: Callable = dynamics.fold
    spikes: Callable = dynamics.spikes
    means: Callable = dynamics.means
    statistics_: Callable = dynamics.statistics_
    add_: Callable = dynamics.add_by_step_
    covariance: Callable = dynamics.covariance
    recode: Callable = dynamics.recode


def compiled(device: torch.device) -> Kernels:
    """The same functions, fused: our own C++ on a CPU, torch's compiler elsewhere.

    Raises `CompilerError`, its message one line, where there is no working compiler.
    """
    if device.type == "cpu":
        native.verify()
        return Kernels(
            fold=native.fold,
            spikes=native.spikes,
            statistics_=native.statistics_,
            add_=native.add_,
            covariance=native.covariance,
            recode=native.recode,
        )
    _try_compiler(device)
    return by_torch()


def by_torch() -> Kernels:
    """The functions by `torch.compile`, each compiled once for all batch and layer sizes."""
    return Kernels(
        fold=_fused(dynamics.fold),
        spikes=_fused(dynamics.spikes),
        means=_fused(dynamics.means),
        statistics_=_statistics(_fused(dynamics.centre_, dynamics.centre_by_step_)),
        add_=_fused(dynamics.add_, dynamics.add_by_step_),
        covariance=_fused(dynamics.covariance),
    )


def _fused(function: Callable, eager: Callable | None = None) -> Callable:
    fused, eager = torch.compile(function, dynamic=True), eager or function

    def call(y, *args):
        return (eager if y.numel() < SMALL else fused)(y, *args)

    return call


def _statistics(centre_: Callable) -> Callable:
    """`dynamics.statistics_` with another way of centring; its sums are torch's own one pass."""

    def statistics_(y: Tensor, centres: bool) -> dynamics.Statistics:
        channels = dynamics.channel_statistics(y.flatten(0, 1))
        return dynamics.Statistics(*channels, centre_(y) if centres else None)

    return statistics_


def _try_compiler(device: torch.device) -> None:
    quiet = logging.getLogger("torch._dynamo"), logging.getLogger("torch._inductor")
    levels = [log.level for log in quiet]
    try:
        for log in quiet:
            log.setLevel(logging.CRITICAL)
        torch.compile(lambda a: a * 2 + 1)(torch.ones(64, device=device))
    except Exception as error:  # the compiler's own failures are of many kinds
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CompilerError(lines[0]) from error
    finally:
        for log, level in zip(quiet, levels, strict=True):
            log.setLevel(level)
