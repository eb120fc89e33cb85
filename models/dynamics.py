"""The equations of IF and LIF neurons: pure functions, one source for every engine.

Both neurons are one recursion with different constants (method.md section 2):

    u <- decay * u + gain * z_t          membrane potential, u = 0 before the first step
    fires where u >= alpha * Vth,        u <- u - Vth there
    s_t = amplitude * Vth where it fired, 0 elsewhere

and their gradients see a train only through v-weighted means, v_t summing to 1:

    r = sum_t v_t s_t                    representation (firing rate)
    x = sum_t v_t z_t,   R = T * sum_t v_t g_t
    dL/dz_t = leak / T * R * 1[x inside (0, ceiling * Vth)]       the same for every t
    dL/dVth = Vth_scale * sum of R * 1[x > ceiling * Vth]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from models.setting import NeuronSetting


@dataclass(frozen=True)
class Dynamics:
    """Constants of one kind of neuron, named as in the equations above."""

    timesteps: int
    alpha: float
    decay: float
    gain: float
    amplitude: float
    leak: float
    ceiling: float
    Vth_scale: float
    weights: tuple[float, ...]  # v_t
    closed: bool  # IF counts both ends of the interval as inside, LIF neither

    @classmethod
    def integrate_and_fire(cls, setting: NeuronSetting, Vth_scale: float = 1.0) -> Dynamics:
        T = setting.timesteps
        return cls(
            timesteps=T,
            alpha=setting.alpha,
            decay=1.0,
            gain=1.0,
            amplitude=1.0,
            leak=1.0,
            ceiling=1.0,
            Vth_scale=Vth_scale,
            weights=(1.0 / T,) * T,
            closed=True,
        )

    @classmethod
    def leaky_integrate_and_fire(cls, setting: NeuronSetting) -> Dynamics:
        T, tau, delta_t = setting.timesteps, setting.tau, setting.delta_t
        decay = math.exp(-delta_t / tau)
        weights = [decay ** (T - t) for t in range(1, T + 1)]
        total = sum(weights)
        return cls(
            timesteps=T,
            alpha=setting.alpha,
            decay=decay,
            gain=1.0 - decay,
            amplitude=1.0 / delta_t,
            leak=1.0 / tau,
            ceiling=tau / delta_t,
            Vth_scale=delta_t,
            weights=tuple(w / total for w in weights),
            closed=False,
        )

    @property
    def uniform(self) -> bool:
        """Whether the v-weighted mean is the plain mean over time (IF)."""
        return self.closed


def step(u: Tensor, z: Tensor, Vth: Tensor, d: Dynamics) -> tuple[Tensor, Tensor]:
    """One timestep: `(u, z_t) -> (u, fired)`, elementwise; `fired` is bool."""
    u = u + z if d.decay == d.gain == 1.0 else d.decay * u + d.gain * z
    fired = u >= d.alpha * Vth
    return torch.where(fired, u - Vth, u), fired


def masks(x: Tensor, Vth: Tensor, d: Dynamics) -> tuple[Tensor, Tensor]:
    """`(1[x inside], 1[x above])` of the mean input `x`: where z, and where Vth, gets gradient."""
    top = d.ceiling * Vth
    inside = (x >= 0) & (x <= top) if d.closed else (x > 0) & (x < top)
    return inside, x > top


def weighted_mean(train: Tensor, d: Dynamics) -> Tensor:
    """`sum_t v_t a_t` of a train `(T, ...)`."""
    if d.uniform:
        return train.mean(0)
    mean = d.weights[0] * train[0]
    for v, values in zip(d.weights[1:], train[1:], strict=True):
        mean = torch.add(mean, values, alpha=v)
    return mean


class Affine(NamedTuple):
    """BatchNorm as the neuron sees it: `z = gamma * yh + beta`, `yh = (y - mean) * inv_std`."""

    mean: Tensor
    inv_std: Tensor
    gamma: Tensor
    beta: Tensor

    @property
    def slope(self) -> Tensor:
        return self.gamma * self.inv_std

    @property
    def offset(self) -> Tensor:
        return self.beta - self.mean * self.slope


class Folded(NamedTuple):
    """What one neuron layer leaves behind: its train, and what the backward pass needs of it."""

    spikes: Tensor  # (T, M, C) in {0, 1}, compute type
    count: Tensor  # (M, C) spikes a neuron, uint8 up to T = 255
    mean_u: Tensor  # (M, C) yh_u = mean_t yh_t (without BatchNorm: y_u)
    mean_v: Tensor | None  # (M, C) yh_v = sum_t v_t yh_t; None where it is yh_u
    inside: Tensor  # (M, C) bool
    above: Tensor  # (M, C) bool


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The type sums and membranes are kept in: float64 for float64, else float32."""
    return torch.promote_types(dtype, torch.float32)


def spikes(
    y: Tensor, affine: Affine | None, Vth: Tensor, d: Dynamics, dtype: torch.dtype
) -> Tensor:
    """The train `(T, M, C)` of zeros and ones that the current `y` drives.

    `y` is `(T, M, C)`, or `(M, C)` for a current that is the same at every step.
    """
    drive = _drive(y, affine)
    u = torch.zeros(y.shape[-2:], dtype=accumulator(y.dtype), device=y.device)
    train = _empty_train(u, d, dtype)
    for t in range(d.timesteps):
        u, fired = step(u, drive(t), Vth, d)
        train[t] = fired.to(dtype)
    return _whole(train)


def fold(
    y: Tensor,
    mean: Tensor | None,
    affine: Affine | None,
    Vth: Tensor,
    d: Dynamics,
    dtype: torch.dtype,
) -> Folded:
    """`spikes`, with the counts, means and masks of method.md section 4, in one pass over `y`.

    The current is spent: a fused form may leave the spikes where it was.

    `mean` `(M, C)` is `y_u` where `y` has been centred about it already (`statistics_`), else None.
    """
    drive = _drive(y, affine, mean)
    static = y.dim() == 2
    u = torch.zeros(y.shape[-2:], dtype=accumulator(y.dtype), device=y.device)
    count = torch.zeros(u.shape, dtype=torch.int32, device=y.device)
    total_u = total_v = u
    train = _empty_train(u, d, dtype)
    for t in range(d.timesteps):
        u, fired = step(u, drive(t), Vth, d)
        train[t] = fired.to(dtype)
        count = count + fired
        if not static:
            total_u = total_u + y[t] if mean is None else total_u
            total_v = total_v if d.uniform else total_v + d.weights[t] * y[t].to(u.dtype)
    same = static or d.uniform
    if mean is None:
        mean_u = y.to(u.dtype) if static else total_u / d.timesteps
        mean_v = total_v
    else:
        mean_u, mean_v = mean, mean + total_v
    x = mean_u if same else mean_v
    if affine is not None:
        x = x * affine.slope + affine.offset
    return Folded(
        _whole(train),
        count.to(torch.uint8 if d.timesteps < 256 else torch.int16),
        _kept(mean_u, affine, dtype),
        None if same else _kept(mean_v, affine, dtype),
        *masks(x, Vth, d),
    )


def _empty_train(u: Tensor, d: Dynamics, dtype: torch.dtype) -> Tensor | list:
    """Where a loop puts its steps: a tensor, or for the compiler, which fuses those, a list."""
    if torch.compiler.is_compiling():
        return [None] * d.timesteps
    return torch.empty((d.timesteps, *u.shape), dtype=dtype, device=u.device)


def _whole(train: Tensor | list) -> Tensor:
    return torch.stack(train) if isinstance(train, list) else train


def _kept(mean: Tensor, affine: Affine | None, dtype: torch.dtype) -> Tensor:
    """A mean current as the backward pass wants it: normalised, in the compute type."""
    return (mean if affine is None else (mean - affine.mean) * affine.inv_std).to(dtype)


def _drive(y: Tensor, affine: Affine | None, mean: Tensor | None = None):
    """`t -> z_t`, the neuron's input at step t in the accumulation type."""
    slope, offset = (1.0, 0.0) if affine is None else (affine.slope, affine.offset)
    if y.dim() == 2:
        z = y.to(accumulator(y.dtype)) * slope + offset
        return lambda t: z
    if mean is not None:
        offset = mean * slope + offset
    if affine is None and mean is None:
        return lambda t: y[t].to(accumulator(y.dtype))
    return lambda t: y[t] * slope + offset


def means(q: Tensor, affine: Affine, d: Dynamics, dtype: torch.dtype):
    """`(qh_u, qh_v)` of a current `(S, M, C)`, as `Folded.mean_u` and `.mean_v`."""
    exact = accumulator(q.dtype)
    mean_u = _kept(_time_mean(q), affine, dtype)
    if len(q) == 1 or d.uniform:
        return mean_u, None
    mean_v = sum(d.weights[t] * q[t].to(exact) for t in range(d.timesteps))
    return mean_u, _kept(mean_v, affine, dtype)


class Statistics(NamedTuple):
    """Mean and biased variance of each channel (C,), and where it was centred `y_u` (M, C)."""

    mean: Tensor
    var: Tensor
    time_mean: Tensor | None


def statistics_(y: Tensor, centres: bool) -> Statistics:
    """`Statistics` of a current `(S, M, C)`; where `centres`, also `y_t <- y_t - y_u` in place."""
    return Statistics(*channel_statistics(y.flatten(0, 1)), centre_by_step_(y) if centres else None)


def channel_statistics(y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel of `(M, C)`, in the accumulation type.

    One pass, many times as fast as `torch.var_mean` on a CPU. Its type is that of the running
    statistics it is given, which momentum 0 leaves alone.
    """
    unused = y.new_zeros(y.shape[1], dtype=accumulator(y.dtype))
    mean, var = torch.batch_norm_update_stats(y, unused, unused.clone(), 0.0)
    return mean, var


def centre_(y: Tensor) -> Tensor:
    """`y_t <- y_t - y_u` in place, for a current `(T, M, C)`; gives `y_u`."""
    mean = _time_mean(y)
    y.sub_(mean)
    return mean


def centre_by_step_(y: Tensor) -> Tensor:
    """`centre_` without temporary copies of the whole: its eager form."""
    mean = _time_mean(y)
    for steps in y:
        steps.sub_(mean)
    return mean


def _time_mean(y: Tensor) -> Tensor:
    """The plain mean over time; step by step, since eager sums of bf16 first widen all of it."""
    total = torch.zeros(y.shape[1:], dtype=accumulator(y.dtype), device=y.device)
    for steps in y:
        total = total + steps
    return total / len(y)


def add_(y: Tensor, a: Tensor, scale: Tensor, shift: Tensor | None) -> None:
    """`y <- y + scale * a + shift` in place, rounded once; `scale`, `shift` scalars or (C,)."""
    # The scale of a whole train is 0-dim, to which torch would give the type of `a`.
    term = a.to(accumulator(y.dtype)) * scale
    y.copy_(y + (term if shift is None else term + shift))


def add_by_step_(y: Tensor, a: Tensor, scale: Tensor, shift: Tensor | None) -> None:
    """`add_` of trains `(T, M, C)` without temporary copies of the whole: its eager form."""
    for target, term in zip(y, a.expand_as(y), strict=True):
        add_(target, term, scale, shift)


def recode(spikes: Tensor, dtype: torch.dtype) -> Tensor:
    """Zeros and ones in another type."""
    return spikes.to(dtype)


def covariance(y: Tensor, q: Tensor) -> Tensor:
    """`<<(y_t - y_u) * q_t>>` a channel, of a centred current and a train `(T, M, C)`."""
    exact = accumulator(y.dtype)
    return (y.to(exact) * q.to(exact)).mean((0, 1))
