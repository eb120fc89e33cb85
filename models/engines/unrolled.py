"""The unrolled engine: torch's autograd over the whole train (method.md section 2), the oracle.

Trains are plain tensors `(T*N, C, ...)`, time-major. A neuron layer keeps two masks of batch N.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from models.dynamics import Dynamics, accumulator, masks, step, weighted_mean


def present(images: Tensor, timesteps: int) -> Tensor:
    """The input train of static images `(N, C, H, W)` or of frames `(N, T, C, H, W)`."""
    if images.dim() == 4:
        return images.expand(timesteps, *images.shape).flatten(0, 1)
    return images.transpose(0, 1).flatten(0, 1)


def readout(train: Tensor, d: Dynamics) -> Tensor:
    """`sum_t v_t s_t`, `(N, classes)`."""
    return weighted_mean(train.unflatten(0, (d.timesteps, -1)), d)


def fire(z: Tensor, Vth: Tensor, d: Dynamics) -> Tensor:
    """The train `s` of a neuron layer with input train `z`, both `(T*N, ...)`."""
    return _Fire.apply(z, Vth, d)


class _Fire(Function):
    @staticmethod
    def forward(ctx, z: Tensor, Vth: Tensor, d: Dynamics) -> Tensor:
        steps = z.unflatten(0, (d.timesteps, -1))
        u = torch.zeros_like(steps[0], dtype=accumulator(z.dtype))
        x = torch.zeros_like(u)
        train = torch.empty_like(steps, dtype=u.dtype)
        amplitude = d.amplitude * Vth
        for t in range(d.timesteps):
            u, fired = step(u, steps[t], Vth, d)
            torch.mul(fired, amplitude, out=train[t])
            x.add_(steps[t], alpha=1.0 if d.uniform else d.weights[t])
        inside, above = masks(x / d.timesteps if d.uniform else x, Vth, d)
        ctx.save_for_backward(inside, above)
        ctx.d, ctx.dtype = d, z.dtype
        return train.flatten(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        inside, above = ctx.saved_tensors
        d = ctx.d
        R = d.timesteps * weighted_mean(grad.unflatten(0, (d.timesteps, -1)), d)
        dVth = d.Vth_scale * (R * above).sum() if ctx.needs_input_grad[1] else None
        dz = ((d.leak / d.timesteps) * (R * inside)).to(ctx.dtype)
        return dz.expand(d.timesteps, *dz.shape).flatten(0, 1), dVth, None
