import pytest
import torch
from torch import nn

from models.export.layer_graph import ExportError
from models.export.units import IMAGES, units
from models.network import SpikingNetwork
from tests.models.export.odd_network import (
    odd_images,
    odd_network,
    outputs_and_spikes,
)


@torch.no_grad()
def simulate(found, d, images, steps=4):
    """Return the binary spikes `(T, N, ...)` of units, by the plain equations."""
    u, spikes = {}, {unit.name: [] for unit in found}
    for t in range(steps):
        values = {IMAGES: images if images.dim() == 4 else images[:, t]}
        for unit in found:
            z = 0.0
            for branch in unit.branches:
                x = values[branch.source]
                for _, layer in branch.layers:
                    x = layer(x)
                z = z + x
            z = z + unit.bias.view(-1, *[1] * (z.dim() - 2))
            u[unit.name] = d.decay * u.get(unit.name, 0.0) + d.gain * z
            fired = u[unit.name] >= d.alpha * unit.Vth
            u[unit.name] = u[unit.name] - fired * unit.Vth
            values[unit.name] = fired.double()
            spikes[unit.name].append(fired)
    return {name: torch.stack(train) for name, train in spikes.items()}


@pytest.mark.parametrize("kind", ["if", "lif"])
@pytest.mark.parametrize("frames", [False, True])
def test_units_fire_when_the_layers_do(kind, frames):
    network, images = odd_network(kind), odd_images(frames)
    _, expected = outputs_and_spikes(network, images)
    found = simulate(units(network), network.dynamics, images)
    assert found.keys() == expected.keys()
    for name, train in expected.items():
        assert 0.05 < train.double().mean() < 0.95, name
        assert torch.equal(found[name], train), name


def test_the_network_is_left_as_it_was():
    network = odd_network("if")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    units(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class Changed(SpikingNetwork):
    """A convolution and neurons with `middle` between them, and `last` before the readout."""

    in_channels = 2

    def __init__(self, neuron, setting, middle, last):
        super().__init__(setting)
        self.conv = nn.Conv2d(2, 2, 3)
        self.middle = middle
        self.relu = neuron(setting)
        self.last = last

    def forward(self, images):
        x = self.relu(self.middle(self.conv(self.present(images))))
        return self.readout(self.last(x))


def without_statistics():
    return nn.BatchNorm2d(2, track_running_stats=False)


@pytest.mark.parametrize(
    ("middle", "last", "reason"),
    [
        (nn.MaxPool2d(2), nn.Identity(), "layer middle is a MaxPool2d, which is not linear"),
        (without_statistics(), nn.Identity(), "layer middle keeps no running statistics"),
        (nn.AvgPool2d(3, 2, 1), nn.Identity(), "layer middle follows a sum, bias or BatchNorm"),
        (nn.Conv2d(2, 2, 1), nn.Identity(), "layer middle follows a sum, bias or BatchNorm"),
        (nn.Flatten(), nn.Identity(), "layer middle follows a sum, bias or BatchNorm"),
        (nn.Identity(), nn.Flatten(), "its output is not that of its last neuron layer"),
    ],
)
def test_what_no_unit_can_hold_is_refused(middle, last, reason):
    network = odd_network("if", lambda neuron, setting: Changed(neuron, setting, middle, last))
    with pytest.raises(ExportError, match=reason):
        units(network)


def test_neurons_on_flattened_spikes_without_weights_are_refused():
    network = odd_network("if")
    network.head = nn.Sequential(nn.Flatten(), network.head[2])
    with pytest.raises(ExportError, match="neurons head.1 have no weights between them and relu3"):
        units(network)
