"""The neurons as functions of tensors whose first dimension is time.

They differentiate on spike representation (docs/method.md, section 3). Constants default to those
of `NeuronSetting`; thresholds may be tensors with gradients, and are not raised to a floor.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models import dynamics
from models.dynamics import Dynamics, accumulator
from models.engines import unrolled
from models.setting import NeuronSetting

_DEFAULT = NeuronSetting()


def integrate_and_fire(
    z: Tensor,
    Vth: Tensor | float = _DEFAULT.Vth,
    alpha: float = _DEFAULT.alpha,
    Vth_scale: float = 1.0,
) -> Tensor:
    """Return the spikes of IF neurons with the input `z`, both `(T, N, ...)`.

    A spike has the amplitude `Vth`. `Vth_scale` scales the gradient of the threshold. Raises
    `ValueError` for fewer than two dimensions.
    """
    setting = NeuronSetting(timesteps=len(z), alpha=alpha)
    return _fire(z, Vth, Dynamics.integrate_and_fire(setting, Vth_scale))


def leaky_integrate_and_fire(
    z: Tensor,
    Vth: Tensor | float = _DEFAULT.Vth,
    alpha: float = _DEFAULT.alpha,
    tau: float = _DEFAULT.tau,
    delta_t: float = _DEFAULT.delta_t,
) -> Tensor:
    """Return the spikes of LIF neurons with the input `z`, both `(T, N, ...)`.

    A spike has the amplitude `Vth / delta_t`. Raises `ValueError` for fewer than two dimensions.
    """
    setting = NeuronSetting(timesteps=len(z), alpha=alpha, tau=tau, delta_t=delta_t)
    return _fire(z, Vth, Dynamics.leaky_integrate_and_fire(setting))


def weighted_mean(
    s: Tensor, tau: float = _DEFAULT.tau, delta_t: float = _DEFAULT.delta_t
) -> Tensor:
    """Return the representation `sum_t v_t s_t` of LIF spikes `(T, N, ...)`.

    That of IF spikes is `s.mean(0)`.
    """
    setting = NeuronSetting(timesteps=len(s), tau=tau, delta_t=delta_t)
    return dynamics.weighted_mean(s, Dynamics.leaky_integrate_and_fire(setting))


def _fire(z: Tensor, Vth: Tensor | float, d: Dynamics) -> Tensor:
    if z.dim() < 2:
        raise ValueError(f"expected (T, N, ...), time first, got {tuple(z.shape)}")
    if not isinstance(Vth, Tensor):
        Vth = torch.tensor(Vth, dtype=accumulator(z.dtype), device=z.device)
    return unrolled.fire(z.flatten(0, 1), Vth, d).view(z.shape)
