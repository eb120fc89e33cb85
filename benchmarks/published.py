"""How the published code computes a step: the anchor that speed and memory are measured against.

Unfused eager loops over time, one new tensor an operation, and each neuron's whole input saved
for backward; contiguous tensors in the parameters' type. Gradients are those of method.md
section 2, so the anchor is also checked against the engines (tests/benchmarks).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd import Function

from models.dynamics import Dynamics
from models.neuron import Neuron


class _Spikes(Function):
    @staticmethod
    def forward(ctx, z: Tensor, Vth: Tensor, d: Dynamics) -> Tensor:
        ctx.save_for_backward(z, Vth)
        ctx.d = d
        steps = z.view(d.timesteps, -1, *z.shape[1:])
        u = torch.zeros_like(steps[0])
        train = []
        for t in range(d.timesteps):
            u = d.decay * u + d.gain * steps[t] if not d.uniform else u + steps[t]
            fired = (u >= d.alpha * Vth).to(z.dtype)
            u = u - fired * Vth
            train.append(fired * Vth * d.amplitude)
        return torch.cat(train)

    @staticmethod
    def backward(ctx, grad: Tensor):
        z, Vth = ctx.saved_tensors
        d = ctx.d
        steps = z.view(d.timesteps, -1, *z.shape[1:])
        gradients = grad.view(d.timesteps, -1, *grad.shape[1:])
        v = torch.tensor(d.weights, dtype=z.dtype, device=z.device)
        v = v.view(-1, *(1,) * (steps.dim() - 1))
        x = (v * steps).sum(0)
        R = d.timesteps * (v * gradients).sum(0)
        top = d.ceiling * Vth
        inside = (x >= 0) & (x <= top) if d.closed else (x > 0) & (x < top)
        dz = (d.leak / d.timesteps) * R * inside
        dVth = d.Vth_scale * (R * (x > top)).sum()
        return dz.repeat(d.timesteps, *(1,) * (dz.dim() - 1)), dVth, None


def as_published(model: nn.Module) -> nn.Module:
    """The same network, its neurons computed as the published code does; in place."""
    model.configure(engine="unrolled")
    for module in model.modules():
        if isinstance(module, Neuron):
            module.forward = _forward(module)
    return model


def _forward(neuron: Neuron):
    return lambda z: _Spikes.apply(z, neuron.Vth, neuron.dynamics)
