"""The connections of a spiking network, counted: which neurons feed which weights, how often.

A connection is one weight at one place of a convolution's window. Where the window reaches into
zero padding, or a stride skips an input, there is none.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from models.network import SpikingNetwork, bracketed
from models.recording.means import run_on_means


@dataclass
class Synapses:
    """The weights of one convolution or linear layer.

    `connections` counts them for one input, which is the number of multiplications of a dense
    input. `fan_out` has, for each neuron layer that feeds the weights, the connections of each
    neuron, `(C, ...)` in int64; it is empty where the input is not spikes, as that of the first
    layer. A neuron before an average pool has the connections of all its cells.
    """

    layer: str
    connections: int
    fan_out: dict[str, Tensor] = field(default_factory=dict)


def trace_synapses(network: SpikingNetwork, images: Tensor) -> list[Synapses]:
    """Return the synapses of `network` for an input of the size of `images`, in calling order."""
    tracer = _Tracer(network)
    with torch.enable_grad(), tracer:
        run_on_means(network, images[:1], tracer.fire)
    return tracer.synapses


class _Tracer(TorchFunctionMode):
    """Sends ones from every neuron through the linear maps, with ones in place of the weights.

    The sum of the outputs of a layer then counts its connections, and its gradient at a neuron is
    the neuron's fan-out. What a layer puts out is replaced by NaN, which marks an input that is
    not made of spikes. Pools add up instead of averaging.
    """

    def __init__(self, network: SpikingNetwork) -> None:
        super().__init__()
        self.names = {id(p): bracketed(n) for n, p in network.named_parameters()}
        self.ones: dict[str, Tensor] = {}
        self.synapses: list[Synapses] = []
        self.replaced = {
            F.conv2d: self._conv2d,
            F.linear: self._linear,
            F.avg_pool2d: _sum_pool2d,
            F.adaptive_avg_pool2d: _adaptive_sum_pool2d,
        }

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return self.replaced.get(func, func)(*args, **(kwargs or {}))

    def fire(self, layer: str, x: Tensor) -> Tensor:
        """Return ones in the shape of the neuron layer's input."""
        self.ones[layer] = torch.ones_like(x).requires_grad_()
        return self.ones[layer]

    def _conv2d(self, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor:
        one_filter = torch.ones_like(weight[:groups])  # all filters of a group connect alike
        options = stride, padding, dilation, groups
        windows = F.conv2d(x, one_filter, None, *options)
        dense = F.conv2d(torch.ones_like(x), one_filter, None, *options)
        self._add(weight, windows, dense, len(weight) // groups)
        return x.new_full((len(x), len(weight), *windows.shape[2:]), torch.nan)

    def _linear(self, x, weight, bias=None) -> Tensor:
        windows = x.sum(-1, keepdim=True)
        self._add(weight, windows, torch.ones_like(x).sum(-1), len(weight))
        return x.new_full((*x.shape[:-1], len(weight)), torch.nan)

    def _add(self, weight: Tensor, windows: Tensor, dense: Tensor, filters: int) -> None:
        """Add the synapses of `filters` filters of a `weight` with these numbers of inputs."""
        name = self.names.get(id(weight), f"weight {len(self.synapses)}").removesuffix(".weight")
        connections = round(dense.sum(dtype=torch.float64).item()) * filters
        self.synapses.append(Synapses(name, connections))
        if not windows.requires_grad or windows.isnan().any():
            return
        gradients = torch.autograd.grad(
            windows.sum(), list(self.ones.values()), retain_graph=True, allow_unused=True
        )
        self.synapses[-1].fan_out = {
            layer: gradient[0].round().long() * filters
            for layer, gradient in zip(self.ones, gradients, strict=True)
            if gradient is not None
        }


def _sum_pool2d(
    x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor=None
) -> Tensor:
    return F.avg_pool2d(x, kernel_size, stride, padding, ceil_mode, divisor_override=1)


def _adaptive_sum_pool2d(x: Tensor, output_size) -> Tensor:
    pooled = F.adaptive_avg_pool2d(x, output_size)
    for dim, (size, cells) in enumerate(zip(x.shape[2:], pooled.shape[2:], strict=True)):
        # Cell i covers the inputs floor(i * size / cells) to ceil((i + 1) * size / cells).
        extents = [-(-(i + 1) * size // cells) - i * size // cells for i in range(cells)]
        shape = (-1, 1) if dim == 0 else (-1,)
        pooled = pooled * pooled.new_tensor(extents).view(shape)
    return pooled
