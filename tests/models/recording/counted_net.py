"""A small network with every kind of connection, and a count of its operations spike by spike."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from models import IFNeuron, LIFNeuron, NeuronSetting
from models.network import SpikingNetwork

TIMESTEPS, SIZE = 3, 9


class CountedNet(SpikingNetwork):
    """Strides, zero padding, groups, dilation, both kinds of pool, and a residual."""

    in_channels = 2

    def __init__(self, neuron, setting: NeuronSetting, num_classes: int = 3) -> None:
        super().__init__(setting)
        self.conv1 = nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False)  # 9x9 -> 5x5
        self.bn1 = nn.BatchNorm2d(4)
        self.relu1 = neuron(setting)
        self.pool = nn.AvgPool2d(2, stride=1, padding=1)  # -> 6x6, windows overlap
        self.conv2 = nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2)  # -> 3x3
        self.shortcut = nn.Conv2d(4, 6, 1, stride=2)
        self.bn2 = nn.BatchNorm2d(6)
        self.relu2 = neuron(setting)
        self.conv3 = nn.Conv2d(6, 6, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(6)
        self.relu3 = neuron(setting)
        self.adaptive = nn.AdaptiveAvgPool2d(2)  # of 3x3: windows overlap
        self.flat = nn.Flatten()
        self.linear = nn.Linear(24, num_classes)
        self.bn4 = nn.BatchNorm1d(num_classes)
        self.relu4 = neuron(setting)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool(self.relu1(self.bn1(self.conv1(self.present(images)))))
        x = self.relu2(self.bn2(self.conv2(x) + self.shortcut(x)))
        x = self.relu3(self.bn3(self.conv3(x) + x))
        x = self.linear(self.flat(self.adaptive(x)))
        return self.readout(self.relu4(self.bn4(x)))


def counted_net(kind: str, engine: str, dtype: torch.dtype = torch.float64) -> CountedNet:
    """Return the network of `if` or `lif` neurons in evaluation mode, with seeded weights."""
    torch.manual_seed(0)
    neuron = {"if": IFNeuron, "lif": LIFNeuron}[kind]
    setting = NeuronSetting(timesteps=TIMESTEPS, Vth=0.7, delta_t=0.4, alpha=0.5)
    network = CountedNet(neuron, setting).to(dtype).eval()
    for bn in (network.bn1, network.bn2, network.bn3, network.bn4):
        bn.running_mean.uniform_(-0.2, 0.2)
        bn.bias.data.uniform_(0.2, 0.6)
    network.configure(engine=engine, compile="off")
    return network


def input_images(kind: str = "images", batch: int = 4) -> Tensor:
    """Return seeded images `(N, 2, 9, 9)`, or frames `(N, T, 2, 9, 9)`."""
    steps = (TIMESTEPS,) if kind == "frames" else ()
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, *steps, 2, SIZE, SIZE, generator=generator, dtype=torch.float64)


def spike_trains(network: CountedNet, images: Tensor) -> dict[str, Tensor]:
    """Return where each layer fired, `(T, N, ...)` in bool, as its input decides step by step."""
    trains, hooks = {}, []
    for name, neuron in network.neurons().items():

        def fire(neuron, inputs, output, name=name):
            u, fired = 0.0, []
            for z in inputs[0].unflatten(0, (TIMESTEPS, -1)):
                d = neuron.dynamics
                u = d.decay * u + d.gain * z
                fired.append(u >= d.alpha * neuron.Vth)
                u = u - neuron.Vth * fired[-1]
            trains[name] = torch.stack(fired)

        hooks.append(neuron.register_forward_hook(fire))
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return trains


def windows(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1):
    """Return, for each output of a window along one axis, the inputs inside of the image."""
    outputs = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    reached = [[o * stride - padding + k * dilation for k in range(kernel)] for o in range(outputs)]
    return [[i for i in inputs if 0 <= i < size] for inputs in reached]


ADAPTIVE = [[0, 1], [1, 2]]  # the windows of AdaptiveAvgPool2d(2) over 3 inputs


def count_operations(trains: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the operations of each layer with spikes as its input, `(T, N)`, by plain loops."""
    first, second, third = (trains[f"relu{k}"] for k in (1, 2, 3))
    pooled = _add_up(first, windows(5, 2, 1, 1))
    return {
        "conv2": _convolve(pooled, windows(6, 3, 2, 2, 2), 6 // 2),
        "shortcut": _convolve(pooled, windows(6, 1, 2), 6),
        "conv3": _convolve(second, windows(3, 3, 1, 1), 6),
        "linear": _add_up(third, ADAPTIVE).sum((2, 3, 4)) * 3,
    }


def _add_up(spikes: Tensor, cells: list[list[int]]) -> Tensor:
    """Return the number of spikes in every cell of a pool, `(T, N, C, H', W')`."""
    pooled = torch.zeros(*spikes.shape[:3], len(cells), len(cells), dtype=torch.int64)
    for (i, rows), (j, columns) in itertools.product(enumerate(cells), enumerate(cells)):
        for row, column in itertools.product(rows, columns):
            pooled[..., i, j] += spikes[..., row, column]
    return pooled


def _convolve(spikes: Tensor, cells: list[list[int]], filters: int) -> Tensor:
    """Return how many weights of `filters` filters the spikes of each step and image meet."""
    count = torch.zeros(spikes.shape[:2], dtype=torch.int64)
    for rows, columns in itertools.product(cells, cells):
        for row, column in itertools.product(rows, columns):
            count += spikes[..., row, column].long().sum(2) * filters
    return count
