"""The passes of `reference` on a CPU, in C++: `native.cpp`, compiled at first use.

Measured on 2 cores (Intel, AMX; a current of 10.5 M elements, T = 20; `benchmarks/passes.py`):
`fold` in bf16 took 5.4 ms, torch.compile of the same equations 15.1 ms, eager torch 34.7 ms; in
float32 7.0, 9.7 and 35.7 ms. Compiling takes a second, with torch.compile half a minute.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from models.dynamics import Dynamics
from models.engines.ops import native_build, reference
from models.engines.ops.native_build import CompilerError
from models.engines.ops.reference import Affine, Folded, Statistics
from models.setting import NeuronSetting

SOURCE = Path(__file__).with_name("csrc") / "native.cpp"

_POINTER, _SIZE, _FLOAT, _BOOL, _INT = (
    ctypes.c_void_p,
    ctypes.c_int64,
    ctypes.c_float,
    ctypes.c_bool,
    ctypes.c_int,
)
_SIGNATURES = {
    "fold": [_POINTER] * 3 + [_SIZE] * 4 + [_FLOAT] * 5 + [_BOOL] * 2 + [_POINTER] * 11 + [_INT],
    "statistics": [_POINTER] * 4 + [_SIZE] * 3 + [_BOOL, _INT],
    "add": [_POINTER] * 3 + [_SIZE, _POINTER, _SIZE, _SIZE, _INT],
    "recode": [_POINTER] * 2 + [_SIZE, _INT],
    "covariance": [_POINTER] * 3 + [_SIZE] * 2 + [_INT],
    "fire_grad": [_POINTER] * 3 + [_FLOAT] + [_POINTER] * 2 + [_SIZE, _INT],
    "norm_sums": [_POINTER] * 4 + [_SIZE] * 2 + [_INT],
    "norm_grad": [_POINTER] * 8 + [_SIZE] * 2 + [_INT],
}
_TYPES = {
    "fold": (
        *("float32_float32_float32", "float32_bfloat16_bfloat16", "bfloat16_bfloat16_bfloat16"),
        *("float32_uint8_float32", "float32_uint8_bfloat16", "bfloat16_uint8_bfloat16"),
    ),
    "statistics": ("float32", "bfloat16"),
    "add": ("float32_float32", "float32_uint8", "bfloat16_bfloat16", "bfloat16_uint8"),
    "recode": ("float32_uint8", "uint8_float32", "bfloat16_uint8", "uint8_bfloat16"),
    "covariance": ("float32", "bfloat16"),
    "norm_sums": ("float32", "bfloat16"),
    "norm_grad": ("float32", "bfloat16"),
}
FUNCTIONS = ("fire_grad", *(f"{name}_{types}" for name in _TYPES for types in _TYPES[name]))


@functools.cache
def library() -> ctypes.CDLL:
    """Load the compiled passes. Raises `CompilerError` without a working C++ compiler."""
    return native_build.load(SOURCE, FUNCTIONS)


@functools.cache
def verify() -> None:
    """Compare the compiled `fold` with the reference on a small current.

    Raises `CompilerError` where the results differ or `library` fails.
    """
    d = Dynamics.leaky_integrate_and_fire(NeuronSetting(timesteps=3, Vth=0.5, delta_t=0.25))
    cpu = {"dtype": torch.float32, "device": "cpu"}
    y = torch.linspace(-1, 4, 3 * 40 * 24, **cpu).sin().view(3, 40, 24)
    Vth = torch.tensor(0.5, **cpu)
    for dtype in (torch.float32, torch.bfloat16):
        arguments = (None, None, Vth, d, dtype)
        expected = reference.fold(y.to(dtype), *arguments)
        actual = fold(y.to(dtype, copy=True), *arguments)
        if not all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True)):
            raise CompilerError("its code computes other spikes than torch; set CXX to another")


def _call(name: str, types: tuple[torch.dtype, ...], *arguments) -> None:
    """Call a pass for these types; a tensor is passed as the address of its values."""
    function = "_".join((name, *(str(dtype).removeprefix("torch.") for dtype in types)))
    native_build.call(library(), function, _SIGNATURES[name], *arguments)


def _supported(y: Tensor, *others: Tensor) -> bool:
    """Return whether the passes take these currents: contiguous, on the CPU, float32 or bf16."""
    known = y.dtype in (torch.float32, torch.bfloat16) and y.device.type == "cpu"
    return known and all(
        a.is_contiguous() and a.shape == y.shape and a.dtype == y.dtype for a in (y, *others)
    )


def _can_fold(y: Tensor, d: Dynamics, dtype: torch.dtype, spike_dtype: torch.dtype) -> bool:
    """Return whether `fold` supports this current with means and spikes of these types."""
    into = dtype in (y.dtype, torch.bfloat16) and spike_dtype in (dtype, torch.uint8)
    return _supported(y) and into and d.timesteps <= torch.iinfo(torch.int16).max


def spikes(
    y: Tensor, affine: Affine | None, Vth: Tensor, d: Dynamics, spike_dtype: torch.dtype
) -> Tensor:
    """See `reference.spikes`."""
    dtype = y.dtype if spike_dtype == torch.uint8 else spike_dtype
    if not _can_fold(y, d, dtype, spike_dtype):
        return reference.spikes(y, affine, Vth, d, spike_dtype)
    train = _spike_memory(y, d, spike_dtype)
    _fold(y, None, affine, Vth, d, dtype, train, *(None,) * 6)
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
    """See `reference.fold`."""
    spike_dtype = spike_dtype or dtype
    if not _can_fold(y, d, dtype, spike_dtype):
        return reference.fold(y, mean, affine, Vth, d, dtype, spike_dtype)
    small, shape = d.timesteps < 256, y.shape[-2:]
    same = _single(y) or d.uniform
    train = _spike_memory(y, d, spike_dtype)
    count = torch.empty(shape, dtype=torch.uint8 if small else torch.int16, device=y.device)
    mean_u = torch.empty(shape, dtype=dtype, device=y.device)
    mean_v = None if same else torch.empty(shape, dtype=dtype, device=y.device)
    inside, above = (torch.empty(shape, dtype=torch.bool, device=y.device) for _ in range(2))
    counts = (count, None) if small else (None, count)
    _fold(y, mean, affine, Vth, d, dtype, train, *counts, mean_u, mean_v, inside, above)
    return Folded(train, count, mean_u, mean_v, inside, above)


def _spike_memory(y: Tensor, d: Dynamics, dtype: torch.dtype) -> Tensor:
    """Return memory for the spikes: that of the current where they have its type."""
    if not _single(y) and y.dtype == dtype:
        return y
    return torch.empty((d.timesteps, *y.shape[-2:]), dtype=dtype, device=y.device)


def _single(y: Tensor) -> bool:
    """Return whether a current has a single step (static, or T = 1): its means are `y` itself."""
    return y.dim() == 2 or len(y) == 1


def _fold(y, mean, affine, Vth, d: Dynamics, dtype, train: Tensor, *outputs: Tensor | None) -> None:
    M, C = y.shape[-2:]
    steps = 1 if _single(y) else d.timesteps
    weights = None
    if not d.uniform and steps > 1:
        weights = torch.tensor(d.weights, dtype=torch.float32, device=y.device)
    channels = (None,) * 4
    if affine is not None:
        channels = (affine.mean, affine.inv_std, affine.slope, affine.offset)
        channels = tuple(a.float().contiguous() for a in channels)
    _call(
        "fold",
        (y.dtype, train.dtype, dtype),
        y,
        mean,
        weights,
        steps,
        M,
        C,
        d.timesteps,
        d.decay,
        d.gain,
        (d.alpha * Vth).item(),
        Vth.item(),
        (d.ceiling * Vth).item(),
        d.decay == d.gain == 1.0,
        d.interval_closed,
        *channels,
        train,
        *outputs,
    )


def statistics_(y: Tensor, centre: bool) -> Statistics:
    """See `reference.statistics_`."""
    if not _supported(y):
        return reference.statistics_(y, centre)
    like = {"dtype": torch.float32, "device": y.device}
    time_mean = torch.empty(y.shape[1:], **like) if centre else None
    mean, var = torch.empty(y.shape[2], **like), torch.empty(y.shape[2], **like)
    _call("statistics", (y.dtype,), y, time_mean, mean, var, *y.shape, centre)
    return Statistics(mean, var, time_mean)


def add_(y: Tensor, a: Tensor, scale: Tensor, shift: Tensor | None) -> None:
    """See `reference.add_`."""
    packed = a.dtype == torch.uint8 and a.shape == y.shape and a.is_contiguous()
    if not (_supported(y) and packed) and not _supported(y, a):
        return reference.add_by_step_(y, a, scale, shift)
    C = y.shape[-1]
    scale, shift = (None if v is None else v.float().contiguous() for v in (scale, shift))
    _call("add", (y.dtype, a.dtype), y, a, scale, scale.numel(), shift, y.numel() // C, C)


def recode(spikes: Tensor, dtype: torch.dtype) -> Tensor:
    """See `reference.recode`."""
    kinds = {spikes.dtype, dtype} - {torch.uint8}
    if len(kinds) != 1 or not kinds <= {torch.float32, torch.bfloat16}:
        return reference.recode(spikes, dtype)
    result = torch.empty_like(spikes, dtype=dtype)  # in the same order in memory
    if spikes.device.type != "cpu" or result.stride() != spikes.stride():
        return reference.recode(spikes, dtype)
    _call("recode", (spikes.dtype, dtype), spikes, result, spikes.numel())
    return result


def covariance(y: Tensor, q: Tensor) -> Tensor:
    """See `reference.covariance`."""
    if not _supported(y, q):
        return reference.covariance(y, q)
    C = y.shape[-1]
    result = torch.empty(C, dtype=torch.float32, device=y.device)
    _call("covariance", (y.dtype,), y, q, result, y.numel() // C, C)
    return result


def fire_grad(R: Tensor, inside: Tensor, above: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """See `reference.fire_grad`; takes masks in bits."""
    if not _gradient(R) or inside.dim() == 2:
        return reference.fire_grad(R, inside, above, factor)
    g, total = torch.empty_like(R), R.new_empty(())
    _call("fire_grad", (), R, inside, above, factor, g, total, R.numel())
    return g, total


def norm_sums(g: Tensor, mean_u: Tensor) -> tuple[Tensor, Tensor]:
    """See `reference.norm_sums`."""
    if not (_gradient(g) and _supported(mean_u)):
        return reference.norm_sums(g, mean_u)
    total, dot = g.new_empty(g.shape[1]), g.new_empty(g.shape[1])
    _call("norm_sums", (mean_u.dtype,), g, mean_u, total, dot, *g.shape)
    return total, dot


def norm_grad(
    g: Tensor,
    means: tuple[Tensor, Tensor | None],
    m1: Tensor,
    slope: Tensor,
    tilt: Tensor,
) -> tuple[Tensor, Tensor]:
    """See `reference.norm_grad`."""
    mean_u, mean_v = means
    channels = [a.contiguous() for a in (m1, slope, tilt)]
    if not (_gradient(g, *channels) and _supported(mean_u)):
        return reference.norm_grad(g, means, m1, slope, tilt)
    dy_u, dy_v = torch.empty_like(g), None if mean_v is None else torch.empty_like(g)
    _call("norm_grad", (mean_u.dtype,), g, mean_u, mean_v, *channels, dy_u, dy_v, *g.shape)
    return dy_u, dy_u if dy_v is None else dy_v


def _gradient(*gradients: Tensor) -> bool:
    """Return whether the passes take these gradients: contiguous, on the CPU, float32."""
    return all(
        a.is_contiguous() and a.dtype == torch.float32 and a.device.type == "cpu" for a in gradients
    )
