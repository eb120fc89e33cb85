"""The folded engine's passes over a whole current: the reference implementation, in PyTorch.

A current is `(T, M, C)`: timesteps, rows (M = N*H*W) and channels. `native` and `dispatch` offer
the same functions in fused forms, which are tested against these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from models.dynamics import Dynamics, accumulator, masks, step

# Elements that `channel_statistics` converts to float64 at a time.
PART_ELEMENTS = 1 << 20


class Affine(NamedTuple):
    """A BatchNorm as an affine map: `z = gamma * yh + beta`, `yh = (y - mean) * inv_std`."""

    mean: Tensor
    inv_std: Tensor
    gamma: Tensor
    beta: Tensor

    @property
    def slope(self) -> Tensor:
        """The factor of `z = slope * y + offset`."""
        return self.gamma * self.inv_std

    @property
    def offset(self) -> Tensor:
        """The constant of `z = slope * y + offset`."""
        return self.beta - self.mean * self.slope


class Folded(NamedTuple):
    """The output of one neuron layer and what its backward pass needs (docs/method.md, 4.1)."""

    spikes: Tensor  # (T, M, C) zeros and ones
    count: Tensor  # (M, C) spikes per neuron, uint8 up to T = 255, else int16
    mean_u: Tensor  # (M, C) yh_u, the plain mean of yh_t (without BatchNorm: y_u)
    mean_v: Tensor | None  # (M, C) yh_v, the weighted mean; None where it equals yh_u
    inside: Tensor  # (M, C) bool
    above: Tensor  # (M, C) bool


class Statistics(NamedTuple):
    """Mean and biased variance per channel (C,); `y_u` (M, C) where the current was centred."""

    mean: Tensor
    var: Tensor
    time_mean: Tensor | None


def spikes(
    y: Tensor, affine: Affine | None, Vth: Tensor, d: Dynamics, spike_dtype: torch.dtype
) -> Tensor:
    """Return the spikes `(T, M, C)` that the current `y` causes, zeros and ones of `spike_dtype`.

    `y` is `(T, M, C)`, or `(M, C)` for a current that is the same at every step. Fused forms may
    write the spikes into the memory of `y`.
    """
    input_at = _input(y, affine)
    u = torch.zeros(y.shape[-2:], dtype=accumulator(y.dtype), device=y.device)
    train = _new_train(u, d, spike_dtype)
    for t in range(d.timesteps):
        u, fired = step(u, input_at(t), Vth, d)
        train[t] = fired.to(spike_dtype)
    return _stacked(train)


def fold(
    y: Tensor,
    mean: Tensor | None,
    affine: Affine | None,
    Vth: Tensor,
    d: Dynamics,
    dtype: torch.dtype,
    spike_dtype: torch.dtype | None = None,
) -> Folded:
    """Return the spikes with their counts, mean currents and masks, in one pass over `y`.

    Mean currents are of `dtype`, and so are the spikes unless `spike_dtype` is given. `mean` is
    `y_u` `(M, C)` where `y` has already been centred by it (`statistics_`), else None. Fused forms
    may write the spikes into the memory of `y`.
    """
    spike_dtype = spike_dtype or dtype
    input_at = _input(y, affine, mean)
    static = y.dim() == 2
    u = torch.zeros(y.shape[-2:], dtype=accumulator(y.dtype), device=y.device)
    count = torch.zeros(u.shape, dtype=torch.int32, device=y.device)
    total_u = total_v = u
    train = _new_train(u, d, spike_dtype)
    for t in range(d.timesteps):
        u, fired = step(u, input_at(t), Vth, d)
        train[t] = fired.to(spike_dtype)
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
        _stacked(train),
        count.to(torch.uint8 if d.timesteps < 256 else torch.int16),
        _normalised(mean_u, affine, dtype),
        None if same else _normalised(mean_v, affine, dtype),
        *masks(x, Vth, d),
    )


def _new_train(u: Tensor, d: Dynamics, dtype: torch.dtype) -> Tensor | list:
    """Return a container for T steps: a tensor, or a list while torch.compile fuses the loop."""
    if torch.compiler.is_compiling():
        return [None] * d.timesteps
    return torch.empty((d.timesteps, *u.shape), dtype=dtype, device=u.device)


def _stacked(train: Tensor | list) -> Tensor:
    return torch.stack(train) if isinstance(train, list) else train


def _normalised(mean: Tensor, affine: Affine | None, dtype: torch.dtype) -> Tensor:
    """Return a mean current normalised, in the compute type, as the backward pass uses it."""
    return (mean if affine is None else (mean - affine.mean) * affine.inv_std).to(dtype)


def _input(y: Tensor, affine: Affine | None, mean: Tensor | None = None) -> Callable[[int], Tensor]:
    """Return the function `t -> z_t`, the neuron's input in the accumulation type."""
    slope, offset = (1.0, 0.0) if affine is None else (affine.slope, affine.offset)
    if y.dim() == 2:
        z = y.to(accumulator(y.dtype)) * slope + offset
        return lambda t: z
    if mean is not None:
        offset = mean * slope + offset
    if affine is None and mean is None:
        return lambda t: y[t].to(accumulator(y.dtype))
    return lambda t: y[t] * slope + offset


def means(
    q: Tensor, affine: Affine, d: Dynamics, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Return `(qh_u, qh_v)` of a current, as `Folded.mean_u` and `Folded.mean_v`."""
    mean_u = _normalised(_time_mean(q), affine, dtype)
    if len(q) == 1 or d.uniform:
        return mean_u, None
    mean_v = sum(d.weights[t] * q[t].to(accumulator(q.dtype)) for t in range(d.timesteps))
    return mean_u, _normalised(mean_v, affine, dtype)


def statistics_(y: Tensor, centre: bool) -> Statistics:
    """Return the `Statistics` of a current; with `centre`, also `y_t <- y_t - y_u` in place."""
    return Statistics(*channel_statistics(y.flatten(0, 1)), centre_by_step_(y) if centre else None)


def channel_statistics(y: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance per channel of `(M, C)`, in the accumulation type.

    On a CPU, where `torch.var_mean` is slow, they are computed in float64, a part of the rows at a
    time: sums over millions of rows in float32 lose digits.
    """
    if y.device.type != "cpu":
        var, mean = torch.var_mean(y.to(accumulator(y.dtype)), 0, correction=0)
        return mean, var
    parts = [
        (len(part), *_statistics_in_float64(part))
        for part in y.split(max(1, PART_ELEMENTS // y.shape[1]))
    ]
    mean = sum(n * m for n, m, _ in parts) / len(y)
    var = sum(n * (v + (m - mean).square()) for n, m, v in parts) / len(y)
    return mean.to(accumulator(y.dtype)), var.to(accumulator(y.dtype))


def _statistics_in_float64(y: Tensor) -> tuple[Tensor, Tensor]:
    # The running statistics that the function asks for are left alone at momentum 0.
    unused = y.new_zeros(y.shape[1], dtype=torch.float64)
    return torch.batch_norm_update_stats(y.double(), unused, unused.clone(), 0.0)


def centre_(y: Tensor) -> Tensor:
    """Subtract the mean over time in place, `y_t <- y_t - y_u`, and return `y_u`."""
    mean = _time_mean(y)
    y.sub_(mean)
    return mean


def centre_by_step_(y: Tensor) -> Tensor:
    """`centre_` step by step, which needs no temporary copy of the whole current when eager."""
    mean = _time_mean(y)
    for y_t in y:
        y_t.sub_(mean)
    return mean


def _time_mean(y: Tensor) -> Tensor:
    # Step by step, because an eager sum of bf16 first converts the whole current to float32.
    total = torch.zeros(y.shape[1:], dtype=accumulator(y.dtype), device=y.device)
    for y_t in y:
        total = total + y_t
    return total / len(y)


def add_(y: Tensor, a: Tensor, scale: Tensor, shift: Tensor | None) -> None:
    """`y <- y + scale * a + shift` in place, rounded once; `scale`, `shift` scalars or (C,)."""
    # A scale for the whole tensor is 0-dim and would be converted to the type of `a`.
    term = a.to(accumulator(y.dtype)) * scale
    y.copy_(y + (term if shift is None else term + shift))


def add_by_step_(y: Tensor, a: Tensor, scale: Tensor, shift: Tensor | None) -> None:
    """`add_` step by step, which needs no temporary copy of the whole current when eager."""
    for y_t, a_t in zip(y, a.expand_as(y), strict=True):
        add_(y_t, a_t, scale, shift)


def fire_grad(R: Tensor, inside: Tensor, above: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Return `g = factor * R * 1[inside]` and `sum R * 1[above]`.

    The masks are `(M, C)`, or bits, eight to a byte.
    """
    inside, above = (_unpacked(mask, R.shape) for mask in (inside, above))
    return factor * (R * inside), (R * above).sum()


def _unpacked(mask: Tensor, shape: torch.Size) -> Tensor:
    if mask.dim() == 2:
        return mask
    return (mask[:, None] >> torch.arange(8, device=mask.device) & 1).view(shape)


def norm_sums(g: Tensor, mean_u: Tensor) -> tuple[Tensor, Tensor]:
    """Return `sum g` and `sum g * yh_u` over the rows, per channel."""
    return g.sum(0), (g * mean_u).sum(0)


def norm_grad(
    g: Tensor,
    means: tuple[Tensor, Tensor | None],
    m1: Tensor,
    slope: Tensor,
    tilt: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return `slope * (g - m1) - tilt * yh` for the means `yh_u` and `yh_v`, which may be None.

    `m1`, slope and tilt are per channel.
    """
    mean_u, mean_v = means
    base = slope * (g - m1)
    dy_u = base - tilt * mean_u
    return dy_u, dy_u if mean_v is None else base - tilt * mean_v


def recode(spikes: Tensor, dtype: torch.dtype) -> Tensor:
    """Return zeros and ones in another type."""
    return spikes.to(dtype)


def covariance(y: Tensor, q: Tensor) -> Tensor:
    """Return `<<(y_t - y_u) * q_t>>` per channel (C,) of a centred current and another."""
    exact = accumulator(y.dtype)
    return (y.to(exact) * q.to(exact)).mean((0, 1))
