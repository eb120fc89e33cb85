"""Set the thresholds of a network so that it fires at a given mean rate."""

from __future__ import annotations

if __name__ == "__main__":
    raise SystemExit("firing_rate.py is a module: run benchmarks/train_step.py, which uses it")

import math  # noqa: E402

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from models import SpikingNetwork  # noqa: E402


@torch.no_grad()
def mean_rate(model: SpikingNetwork, images: Tensor) -> float:
    """Return the mean over neuron layers of the share of steps with a spike, in training mode."""
    shares: list[float] = []

    def count(neuron, inputs, output) -> None:
        values = output if isinstance(output, Tensor) else output.values
        shares.append(torch.count_nonzero(values).item() / values.numel())

    hooks = [neuron.register_forward_hook(count) for neuron in model.neurons().values()]
    model.train()(images)
    for hook in hooks:
        hook.remove()
    return sum(shares) / len(shares)


def set_mean_rate(model: SpikingNetwork, images: Tensor, rate: float, steps: int = 12) -> None:
    """Give all neuron layers the threshold, to within half a per cent, at which this rate is met.

    The rate falls with the common threshold, which is found by bisection of its logarithm.
    """
    low, high = math.log(1e-3), math.log(1e2)
    for _ in range(steps):
        middle = (low + high) / 2
        for neuron in model.neurons().values():
            neuron.Vth.data.fill_(math.exp(middle))
        low, high = (middle, high) if mean_rate(model, images) > rate else (low, middle)


@torch.no_grad()
def set_running_statistics(model: SpikingNetwork, images: Tensor) -> None:
    """Make the running statistics of every BatchNorm those of these images."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.train()(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
