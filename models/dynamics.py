"""The equations of IF and LIF neurons as pure functions, shared by all engines.

Both neurons are one recursion with different constants (docs/method.md, section 2):

    u <- decay * u + gain * z_t          membrane potential, u = 0 before the first step
    fires where u >= alpha * Vth,        u <- u - Vth there
    s_t = amplitude * Vth where it fires, 0 elsewhere

Their gradient sees a spike train only through means with the weights v_t, which sum to 1
(section 3):

    r = sum_t v_t s_t                    representation
    x = sum_t v_t z_t,   R = T * sum_t v_t g_t
    dL/dz_t = leak / T * R * 1[x inside (0, ceiling * Vth)]       the same for every t
    dL/dVth = Vth_scale * sum of R * 1[x > ceiling * Vth]
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.setting import NeuronSetting


@dataclass(frozen=True)
class Dynamics:
    """Constants of one kind of neuron, named as in docs/method.md, section 2.

    `weights` are the v_t. `interval_closed` tells whether the ends of the interval in which the
    input receives a gradient belong to it: they do for IF, they do not for LIF.
    """

    timesteps: int
    alpha: float
    decay: float
    gain: float
    amplitude: float
    leak: float
    ceiling: float
    Vth_scale: float
    weights: tuple[float, ...]
    interval_closed: bool
    uniform: bool = field(init=False)  # all v_t are equal: the weighted mean is the plain one

    def __post_init__(self) -> None:
        object.__setattr__(self, "uniform", len(set(self.weights)) == 1)

    @classmethod
    def integrate_and_fire(cls, setting: NeuronSetting, Vth_scale: float = 1.0) -> Dynamics:
        """Return the constants of IF neurons."""
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
            interval_closed=True,
        )

    @classmethod
    def leaky_integrate_and_fire(cls, setting: NeuronSetting) -> Dynamics:
        """Return the constants of LIF neurons."""
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
            interval_closed=False,
        )


def step(u: Tensor, z: Tensor, Vth: Tensor, d: Dynamics) -> tuple[Tensor, Tensor]:
    """Advance by one timestep, elementwise: `(u, z_t) -> (u, fired)`; `fired` is bool."""
    u = u + z if d.decay == d.gain == 1.0 else d.decay * u + d.gain * z
    fired = u >= d.alpha * Vth
    return torch.where(fired, u - Vth, u), fired


def masks(x: Tensor, Vth: Tensor, d: Dynamics) -> tuple[Tensor, Tensor]:
    """Return `(1[x inside], 1[x above])`: where the input, and where Vth, receives a gradient."""
    top = d.ceiling * Vth
    inside = (x >= 0) & (x <= top) if d.interval_closed else (x > 0) & (x < top)
    return inside, x > top


def weighted_mean(a: Tensor, d: Dynamics) -> Tensor:
    """Return `sum_t v_t a_t` of a tensor `(T, ...)`."""
    if d.uniform:
        return a.mean(0)
    mean = d.weights[0] * a[0]
    for v, a_t in zip(d.weights[1:], a[1:], strict=True):
        mean = torch.add(mean, a_t, alpha=v)
    return mean


def running_means(a: Tensor, d: Dynamics) -> Tensor:
    """Return, for every t, the weighted mean of the first t steps of a tensor `(T, ...)`.

    Entry t is `weighted_mean` as of a network with t timesteps: its weights are proportional to
    `decay^(t-i)`. The result has the shape and type of `a`.
    """
    total, weight, means = torch.zeros_like(a[0]), 0.0, []
    for a_t in a:
        total, weight = d.decay * total + a_t, d.decay * weight + 1
        means.append(total / weight)
    return torch.stack(means)


def ideal(x: Tensor, Vth: Tensor, d: Dynamics) -> Tensor:
    """Return `leak * clamp(x, 0, ceiling * Vth)`, the representation over infinitely many steps."""
    return d.leak * x.clamp(min=0).minimum(d.ceiling * Vth)


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """Return the type of sums and membrane potentials: float64 for float64, else float32."""
    return torch.promote_types(dtype, torch.float32)
