"""The passes of `reference` on a GPU: torch operators that launch Triton kernels, one each.

An operator also takes `meta` tensors, which have shapes but no values, so that the launches and the
memory of a step can be counted without a GPU.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.library import Library

from models import dynamics
from models.dynamics import Dynamics
from models.engines.ops import reference
from models.engines.ops.native_build import CompilerError
from models.engines.ops.reference import Affine, Folded, Statistics
from models.setting import NeuronSetting

DEVICES = ("cuda", "meta")
TILE = 1024  # elements per program: 8 per thread, so that a thread loads 16 bytes of bf16
MAX_WIDTH = 64  # channels per tile
PROGRAMS = 1024  # that share a reduction: several per multiprocessor
MERGE = 2048  # partial results that are merged at a time
MAX_CHANNEL_BLOCKS = 1024

_KEPT = Folded._fields[1:]

# Keyword arguments are outputs, written without being read.
_SCHEMAS = {
    "fire": "(Tensor y, Tensor? time_mean, Tensor? weights, Tensor Vth, Tensor? mean, "
    "Tensor? inv_std, Tensor? gamma, Tensor? beta, float decay, float gain, float alpha, "
    "float ceiling, bool closed, *, Tensor(a!) spikes, Tensor(b!)? count, Tensor(c!)? mean_u, "
    "Tensor(d!)? mean_v, Tensor(e!)? inside, Tensor(f!)? above) -> ()",
    "means": "(Tensor q, Tensor? weights, Tensor? mean, Tensor? inv_std, *, "
    "Tensor(a!)? mean_u, Tensor(b!)? mean_v) -> ()",
    "add": "(Tensor(a!) y, Tensor a, Tensor scale, Tensor? shift) -> ()",
    "statistics": "(Tensor y, *, Tensor(a!)? centred, Tensor(b!)? time_mean, Tensor(c!) mean, "
    "Tensor(d!) var, Tensor(e!) partial, Tensor(f!) arrivals) -> ()",
    "covariance": "(Tensor y, Tensor q, *, Tensor(a!) result, Tensor(b!) partial, "
    "Tensor(c!) arrivals) -> ()",
}


def spikes(
    y: Tensor, affine: Affine | None, Vth: Tensor, d: Dynamics, dtype: torch.dtype
) -> Tensor:
    """See `reference.spikes`; the spikes may take the memory of `y`."""
    if not _offered(y, Vth, *(affine or ())):
        return reference.spikes(y, affine, Vth, d, dtype)
    train = _train(y, d, dtype)
    _fire(y, None, affine, Vth, d, train, {})
    return train


def fold(
    y: Tensor,
    mean: Tensor | None,
    affine: Affine | None,
    Vth: Tensor,
    d: Dynamics,
    dtype: torch.dtype,
    spike_dtype: torch.dtype | None = None,
) -> Folded:
    """See `reference.fold`; the spikes may take the memory of `y`."""
    if spike_dtype not in (None, dtype) or not _offered(y, Vth, *(affine or ())):
        return reference.fold(y, mean, affine, Vth, d, dtype, spike_dtype)
    types = {
        "count": torch.uint8 if d.timesteps < 256 else torch.int16,
        "mean_u": dtype,
        "mean_v": None if y.dim() == 2 or d.uniform else dtype,
        "inside": torch.bool,
        "above": torch.bool,
    }
    kept = {
        name: None if kind is None else torch.empty(y.shape[-2:], dtype=kind, device=y.device)
        for name, kind in types.items()
    }
    train = _train(y, d, dtype)
    _fire(y, mean, affine, Vth, d, train, kept)
    return Folded(train, **kept)


def means(
    q: Tensor, affine: Affine, d: Dynamics, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """See `reference.means`."""
    if not _offered(q, *affine):
        return reference.means(q, affine, d, dtype)
    single = len(q) == 1 or d.uniform
    mean_u = torch.empty(q.shape[1:], dtype=dtype, device=q.device)
    mean_v = None if single else torch.empty_like(mean_u)
    weights = None if single else _weights(d, q.device)
    torch.ops.dsr.means(q, weights, affine.mean, affine.inv_std, mean_u=mean_u, mean_v=mean_v)
    return mean_u, mean_v


def weighted_mean(a: Tensor, d: Dynamics) -> Tensor:
    """See `dynamics.weighted_mean`; `a` is `(T, N, C)`."""
    if d.uniform or not _offered(a):
        return dynamics.weighted_mean(a, d)
    mean = torch.empty(a.shape[1:], dtype=a.dtype, device=a.device)
    torch.ops.dsr.means(a, _weights(d, a.device), None, None, mean_u=None, mean_v=mean)
    return mean


def statistics_(y: Tensor, centre: bool) -> Statistics:
    """See `reference.statistics_`."""
    if not _offered(y):
        return reference.statistics_(y, centre)
    like = {"dtype": torch.float32, "device": y.device}
    time_mean = torch.empty(y.shape[1:], **like) if centre else None
    mean, var = torch.empty(y.shape[2], **like), torch.empty(y.shape[2], **like)
    partial = torch.empty(2, _programs(y), y.shape[2], **like)
    torch.ops.dsr.statistics(
        y,
        centred=y if centre else None,
        time_mean=time_mean,
        mean=mean,
        var=var,
        partial=partial,
        arrivals=_arrivals(y.device),
    )
    return Statistics(mean, var, time_mean)


def add_(y: Tensor, a: Tensor, scale: Tensor, shift: Tensor | None) -> None:
    """See `reference.add_`."""
    constants = (scale,) if shift is None else (scale, shift)
    if not _offered(y, *constants) or not a.is_contiguous() or a.shape[1:] != y.shape[1:]:
        return reference.add_by_step_(y, a, scale, shift)
    torch.ops.dsr.add(y, a, scale, shift)


def covariance(y: Tensor, q: Tensor) -> Tensor:
    """See `reference.covariance`."""
    if not (_offered(y) and _offered(q)) or y.shape != q.shape:
        return reference.covariance(y, q)
    result = torch.empty(y.shape[2], dtype=torch.float32, device=y.device)
    partial = torch.empty(_programs(y), y.shape[2], dtype=torch.float32, device=y.device)
    torch.ops.dsr.covariance(y, q, result=result, partial=partial, arrivals=_arrivals(y.device))
    return result


def verify(device: torch.device) -> None:
    """Compute the passes over a small current on a GPU and compare with the reference.

    Raises `CompilerError` where they differ or cannot be compiled.
    """
    d = Dynamics.leaky_integrate_and_fire(NeuronSetting(timesteps=3, Vth=0.5, delta_t=0.25))
    current = torch.linspace(-1, 4, 3 * 40 * 24, dtype=torch.float32).sin().view(3, 40, 24)
    Vth = torch.tensor(0.5, dtype=torch.float32)
    for dtype in (torch.float32, torch.bfloat16):
        y = current.to(dtype)
        theirs = reference.fold(y, None, None, Vth, d, dtype).spikes
        moments = reference.statistics_(y.clone(), False)
        try:
            own_moments = statistics_(y.to(device), False)
            mine = fold(y.to(device), None, None, Vth.to(device), d, dtype).spikes
            same = torch.equal(mine.cpu(), theirs) and all(
                torch.allclose(own.cpu(), other.float(), rtol=1e-3, atol=1e-3)
                for own, other in zip(own_moments[:2], moments[:2], strict=True)
            )
        except Exception as error:  # the compiler's own failures are of many kinds
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise CompilerError(lines[0]) from error
        if not same:
            raise CompilerError("Triton's kernels compute other spikes than torch")


def _offered(y: Tensor, *constants: Tensor) -> bool:
    """Return whether the kernels take this current, and these constants (scalars or (C,))."""
    M, C = y.shape[-2:]
    return (
        y.device.type in DEVICES
        and y.dtype in (torch.float32, torch.bfloat16)
        and y.is_contiguous()
        and 0 < M * C < 2**31
        and C <= MAX_CHANNEL_BLOCKS * MAX_WIDTH
        and all(c.dtype == torch.float32 and c.is_contiguous() for c in constants)
    )


def _train(y: Tensor, d: Dynamics, dtype: torch.dtype) -> Tensor:
    """Return where the spikes go: over the current itself where they are of its size."""
    if y.dim() == 3 and y.dtype == dtype:
        return y
    return torch.empty((d.timesteps, *y.shape[-2:]), dtype=dtype, device=y.device)


def _fire(
    y: Tensor,
    time_mean: Tensor | None,
    affine: Affine | None,
    Vth: Tensor,
    d: Dynamics,
    spikes: Tensor,
    kept: dict[str, Tensor | None],
) -> None:
    """Write the spikes, and into `kept` what the backward pass needs."""
    weights = None if kept.get("mean_v") is None else _weights(d, y.device)
    norm = affine or (None,) * 4
    constants = (d.decay, d.gain, d.alpha, d.ceiling, d.interval_closed)
    torch.ops.dsr.fire(
        y,
        time_mean,
        weights,
        Vth,
        *norm,
        *constants,
        spikes=spikes,
        **(dict.fromkeys(_KEPT) | kept),
    )


@functools.lru_cache(maxsize=16)
def _weights(d: Dynamics, device: torch.device) -> Tensor:
    """Return the weights v_t, copied to the device once."""
    with torch.inference_mode(False):
        return torch.tensor(d.weights, dtype=torch.float32, device=device)


def _arrivals(device: torch.device) -> Tensor:
    """Return the counters by which programs find the last of them; zero between launches.

    Kernels in one stream follow each other, so each stream has its own.
    """
    stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
    return _new_arrivals(device, stream)


@functools.lru_cache(maxsize=64)
def _new_arrivals(device: torch.device, stream: int) -> Tensor:
    with torch.inference_mode(False):
        return torch.zeros(MAX_CHANNEL_BLOCKS, dtype=torch.int32, device=device)


def _tile(channels: int) -> tuple[int, int]:
    """Return rows and channels per tile."""
    width = min(MAX_WIDTH, 1 << max(channels - 1, 1).bit_length())
    return TILE // width, width


def _row_blocks(y: Tensor) -> int:
    return -(-y.shape[-2] // _tile(y.shape[-1])[0])


def _blocks_per_program(y: Tensor) -> int:
    """Return how many blocks of rows a program reduces."""
    across = -(-y.shape[-1] // _tile(y.shape[-1])[1])
    return -(-_row_blocks(y) // max(1, PROGRAMS // across))


def _programs(y: Tensor) -> int:
    """Return how many programs share the rows of a reduction."""
    return -(-_row_blocks(y) // _blocks_per_program(y))


# The operators, launched


def _launch(
    name: str,
    y: Tensor,
    pointers: tuple[Tensor | None, ...],
    scalars: tuple[float, ...] = (),
    steps: int | None = None,
    **constants,
) -> None:
    """Launch a kernel over all rows and channels of `y`."""
    from models.engines.ops import triton_kernels  # triton comes with torch where there are GPUs

    M, C = y.shape[-2:]
    height, width = _tile(C)
    rows = _row_blocks(y)
    if "MERGE" in constants:
        rows, scalars = _programs(y), (_blocks_per_program(y),)
    constants |= {"BLOCK_M": height, "BLOCK_C": width}
    with torch.cuda.device_of(y):
        getattr(triton_kernels, name)[rows, -(-C // width)](
            y, *pointers, M, C, steps or len(y), *scalars, **constants, **triton_kernels.OPTIONS
        )


def _launch_fire(y, *arguments, spikes, **kept) -> None:
    *pointers, decay, gain, alpha, ceiling, closed = arguments
    _launch(
        "fire",
        y,
        (*pointers, spikes, *(kept[name] for name in _KEPT)),
        (decay, gain, alpha, ceiling),
        len(spikes),
        STATIC=y.dim() == 2,
        PLAIN_SUM=decay == gain == 1.0,
        CLOSED=closed,
    )


def _launch_means(q, *pointers, mean_u, mean_v) -> None:
    _launch("means", q, (*pointers, mean_u, mean_v))


def _launch_add(y, a, scale, shift) -> None:
    step = 0 if len(a) < len(y) else y.shape[1] * y.shape[2]
    _launch("add", y, (a, scale, shift), (step,), PER_CHANNEL=scale.dim() > 0)


def _launch_statistics(y, *, centred, time_mean, mean, var, partial, arrivals) -> None:
    _launch("statistics", y, (time_mean, mean, var, partial, arrivals), MERGE=_merged(y))


def _launch_covariance(y, q, *, result, partial, arrivals) -> None:
    _launch("covariance", y, (q, result, partial, arrivals), MERGE=_merged(y))


def _merged(y: Tensor) -> int:
    return MERGE // _tile(y.shape[-1])[1]


LAUNCHES = {
    "fire": _launch_fire,
    "means": _launch_means,
    "add": _launch_add,
    "statistics": _launch_statistics,
    "covariance": _launch_covariance,
}
_library = Library("dsr", "DEF")
for _name, _schema in _SCHEMAS.items():
    _library.define(_name + _schema)
    _library.impl(_name, LAUNCHES[_name], "CUDA")
    _library.impl(_name, lambda *arguments, **outputs: None, "Meta")
