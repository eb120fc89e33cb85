"""The unrolled engine: autograd over all timesteps (docs/method.md, section 3), the reference.

Spike trains are plain tensors `(T*N, C, ...)`, time-major. A neuron layer keeps two masks of batch
N for its backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from models.dynamics import Dynamics, accumulator, masks, step, weighted_mean
from models.engines.ops.autocast import autocast
from models.engines.ops.sync_batch_norm import SyncBatchNormMode


@dataclass(frozen=True)
class UnrolledEngine:
    """Computes spike trains as plain tensors; the counterpart of `FoldedEngine`.

    `dtype` is the type of operands under torch's autocast, None for the parameters' type;
    `sync_bn` takes BatchNorm statistics over all ranks.
    """

    timesteps: int
    dtype: torch.dtype | None = None
    sync_bn: bool = False

    @contextmanager
    def forward_context(self, device: torch.device) -> Iterator[None]:
        """Return the context in which a network's forward pass runs."""
        with (
            autocast(device, self.dtype),
            SyncBatchNormMode() if self.sync_bn else nullcontext(),
        ):
            yield

    def present(self, images: Tensor) -> Tensor:
        """Return the input spike train of images `(N, C, H, W)` or frames `(N, T, C, H, W)`."""
        if images.dim() == 4:
            return images.expand(self.timesteps, *images.shape).flatten(0, 1)
        return images.transpose(0, 1).flatten(0, 1)

    def readout(self, train: Tensor, d: Dynamics) -> Tensor:
        """Return the representation `sum_t v_t s_t`, `(N, classes)`."""
        return weighted_mean(train.unflatten(0, (d.timesteps, -1)), d)


def fire(z: Tensor, Vth: Tensor, d: Dynamics) -> Tensor:
    """Return the spike train of a neuron layer with the input `z`, both `(T*N, ...)`."""
    return _Fire.apply(z, Vth, d)


class _Fire(Function):
    @staticmethod
    def forward(ctx, z: Tensor, Vth: Tensor, d: Dynamics) -> Tensor:
        z_t = z.unflatten(0, (d.timesteps, -1))
        u = torch.zeros_like(z_t[0], dtype=accumulator(z.dtype))
        x = torch.zeros_like(u)
        s_t = torch.empty_like(z_t, dtype=u.dtype)
        amplitude = d.amplitude * Vth
        for t in range(d.timesteps):
            u, fired = step(u, z_t[t], Vth, d)
            torch.mul(fired, amplitude, out=s_t[t])
            x.add_(z_t[t], alpha=1.0 if d.uniform else d.weights[t])
        inside, above = masks(x / d.timesteps if d.uniform else x, Vth, d)
        ctx.save_for_backward(inside, above)
        ctx.d, ctx.dtype = d, z.dtype
        return s_t.flatten(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        inside, above = ctx.saved_tensors
        d = ctx.d
        R = d.timesteps * weighted_mean(grad.unflatten(0, (d.timesteps, -1)), d)
        dVth = d.Vth_scale * (R * above).sum() if ctx.needs_input_grad[1] else None
        dz = ((d.leak / d.timesteps) * (R * inside)).to(ctx.dtype)
        return dz.expand(d.timesteps, *dz.shape).flatten(0, 1), dVth, None
