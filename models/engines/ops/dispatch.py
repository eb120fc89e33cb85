"""Choose the implementation of the folded engine's passes: eager, or compiled."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from models import dynamics
from models.engines.ops import gpu, native, reference
from models.engines.ops.native_build import CompilerError

# Below this many elements the overhead of a compiled call exceeds its gain. The limit also keeps
# the heads of the networks, which have shapes of their own, from being compiled.
SMALL = 1 << 17


class Kernels(NamedTuple):
    """The passes over whole currents in one of their implementations; see `reference`."""

    fold: Callable = reference.fold
    spikes: Callable = reference.spikes
    means: Callable = reference.means
    statistics_: Callable = reference.statistics_
    add_: Callable = reference.add_by_step_
    covariance: Callable = reference.covariance
    recode: Callable = reference.recode
    fire_grad: Callable = reference.fire_grad
    norm_sums: Callable = reference.norm_sums
    norm_grad: Callable = reference.norm_grad
    weighted_mean: Callable = dynamics.weighted_mean


def compiled(device: torch.device) -> Kernels:
    """Return fused passes: `native` on a CPU, `gpu` on a GPU, else by torch.compile.

    The `meta` device counts as a GPU. Raises `CompilerError`, whose message is one line, if there
    is no working compiler.
    """
    if device.type == "cpu":
        native.verify()
        return _offered_by(native)
    if device.type == "meta":
        return _offered_by(gpu)
    if device.type == "cuda":
        with suppress(CompilerError):
            gpu.verify(device)
            return _offered_by(gpu)
    _try_compiler(device)
    return by_torch()


def _offered_by(module: ModuleType) -> Kernels:
    """Return the passes that a module offers; the others are those of `reference`."""
    return Kernels(
        **{name: getattr(module, name) for name in Kernels._fields if hasattr(module, name)}
    )


def by_torch() -> Kernels:
    """Return the passes fused by torch.compile, each compiled once for all sizes."""
    return Kernels(
        fold=_fused(reference.fold),
        spikes=_fused(reference.spikes),
        means=_fused(reference.means),
        statistics_=_statistics(_fused(reference.centre_, reference.centre_by_step_)),
        add_=_fused(reference.add_, reference.add_by_step_),
        covariance=_fused(reference.covariance),
    )


def _fused(function: Callable, eager: Callable | None = None) -> Callable:
    fused, eager = torch.compile(function, dynamic=True), eager or function

    def call(y, *args):
        return (eager if y.numel() < SMALL else fused)(y, *args)

    return call


def _statistics(centre_: Callable) -> Callable:
    """Return `reference.statistics_` with another implementation of `centre_`."""

    def statistics_(y: Tensor, centre: bool) -> reference.Statistics:
        channels = reference.channel_statistics(y.flatten(0, 1))
        return reference.Statistics(*channels, centre_(y) if centre else None)

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
