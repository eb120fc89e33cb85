"""A small spiking network with what no registered one has, and what exported ones are tested by."""

import importlib.util
import tempfile
from pathlib import Path

import torch
from torch import nn

from models import NeuronSetting
from models.network import SpikingNetwork
from models.neuron import IFNeuron, LIFNeuron, Neuron
from tests.golden_numbers import fill


class Pair(nn.Module):
    """Two neuron layers on one convolution, added."""

    def __init__(self, channels, neuron, setting):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu1 = neuron(setting)
        self.relu2 = neuron(setting)

    def forward(self, x):
        current = self.conv(x)
        return self.relu1(self.bn1(current)) + self.relu2(self.bn2(current))


class OddNetwork(SpikingNetwork):
    """A list of blocks, grouped convolutions, padded and unequal windows, units without norms."""

    in_channels = 2

    def __init__(self, neuron, setting):
        super().__init__(setting)
        self.conv1 = nn.Conv2d(2, 4, 3, stride=2)
        self.pool1 = nn.AvgPool2d(2)
        self.relu1 = neuron(setting)
        self.pool2 = nn.AvgPool2d(3, 1, padding=1)
        self.blocks = nn.ModuleList([Pair(4, neuron, setting)])
        self.bn2 = nn.BatchNorm2d(4)
        self.relu2 = neuron(setting)
        self.grouped = nn.Conv2d(4, 6, 3, padding=1, groups=2)
        self.relu3 = neuron(setting)
        self.pool3 = nn.AdaptiveAvgPool2d((3, 2))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(36, 5), neuron(setting))

    def forward(self, images):
        x = self.relu1(self.pool1(self.conv1(self.present(images))))
        x = self.relu2(self.bn2(self.blocks[0](x) + self.pool2(x)))
        return self.readout(self.head(self.pool3(self.relu3(self.grouped(x)))))


NEURONS = {"if": IFNeuron, "lif": LIFNeuron}


def odd_network(kind, network=OddNetwork, train_Vth=True):
    """Return a network in evaluation mode, float64, unrolled, filled so that all layers fire."""
    options = {"Vth": 0.3, "delta_t": 0.2, "train_Vth": train_Vth}
    built = network(NEURONS[kind], NeuronSetting(timesteps=4, **options)).double()
    fill(built, salt=2, Vth=0.3)
    built.configure(engine="unrolled")
    return built.eval()


def odd_images(frames=False):
    """Return images `(3, 2, 19, 19)`, or 4 frames of each."""
    shape = (3, 4, 2, 19, 19) if frames else (3, 2, 19, 19)
    return 4 * torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def from_source(source, state, dtype=torch.float64):
    """Return the network of an exported Python file with exported weights."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "exported.py"
        file.write_text(source)
        spec = importlib.util.spec_from_file_location("exported", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    network = module.Network().to(dtype)
    network.load_state_dict(state)
    return network.eval()


@torch.no_grad()
def outputs_and_spikes(network, images):
    """Return what a network of ours gives, and its layers' spikes `(T, N, ...)`, bool, by name."""
    network.configure(engine="unrolled")
    spikes, hooks = {}, []
    for name, module in network.named_modules():
        if isinstance(module, Neuron):
            hooks.append(module.register_forward_hook(_recorder(spikes, name)))
    outputs = network(images)
    for hook in hooks:
        hook.remove()
    return outputs, spikes


def _recorder(spikes, name):
    def record(module, _, output):
        spikes[name] = output.unflatten(0, (module.dynamics.timesteps, -1)) > 0

    return record
