"""The baseline `published`: neurons computed in the same way as by the published code.

Eager loops over time, one new tensor per operation, the whole input of each neuron layer saved for
the backward pass, contiguous tensors in the parameters' type. The gradients are those of
docs/method.md, section 3; a test compares them with the engines'.
"""

from __future__ import annotations

if __name__ == "__main__":
    raise SystemExit("published.py is a module: run benchmarks/train_step.py, which measures it")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.autograd import Function  # noqa: E402

from models.dynamics import Dynamics  # noqa: E402
from models.neuron import Neuron  # noqa: E402


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
        inside = (x >= 0) & (x <= top) if d.interval_closed else (x > 0) & (x < top)
        dz = (d.leak / d.timesteps) * R * inside
        dVth = d.Vth_scale * (R * (x > top)).sum()
        return dz.repeat(d.timesteps, *(1,) * (dz.dim() - 1)), dVth, None


def as_published(model: nn.Module) -> nn.Module:
    """Make the neurons of `model` compute as the published code does, in place; return `model`."""
    model.configure(engine="unrolled")
    for module in model.modules():
        if isinstance(module, Neuron):
            module.forward = _forward(module)
    return model


def _forward(neuron: Neuron):
    return lambda z: _Spikes.apply(z, neuron.Vth, neuron.dynamics)
