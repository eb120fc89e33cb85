"""Synapses counted: against figures worked out by hand, and against a count spike by spike."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models import IFNeuron, NeuronSetting, create_model
from models.network import SpikingNetwork
from models.recording.synapses import trace_synapses
from tests.models.networks import SPIKING
from tests.models.recording.counted_net import (
    count_operations,
    counted_net,
    input_images,
    spike_trains,
)


class TwoLayers(SpikingNetwork):
    """A padded convolution of 3x3 images, and a convolution with a stride after the neurons."""

    in_channels = 1

    def __init__(self, setting: NeuronSetting) -> None:
        super().__init__(setting)
        self.conv1 = nn.Conv2d(1, 2, 3, padding=1)
        self.relu1 = IFNeuron(setting)
        self.conv2 = nn.Conv2d(2, 5, 2, stride=2)
        self.relu2 = IFNeuron(setting)

    def forward(self, images):
        x = self.relu1(self.conv1(self.present(images)))
        return self.readout(torch.flatten(self.relu2(self.conv2(x)), 1))


def test_connections_worked_out_by_hand() -> None:
    first, second = trace_synapses(TwoLayers(NeuronSetting(timesteps=2)), torch.zeros(1, 1, 3, 3))
    # Windows of 3x3 around the pixels of a 3x3 image have 4, 6 or 9 pixels in the image.
    assert (first.layer, first.connections, first.fan_out) == ("conv1", 2 * (4 * 4 + 4 * 6 + 9), {})
    # One window of 2x2 fits, at the upper left; 5 filters.
    corner = torch.tensor([[5, 5, 0], [5, 5, 0], [0, 0, 0]])
    assert (second.layer, second.connections) == ("conv2", 5 * 2 * 4)
    assert list(second.fan_out) == ["relu1"]
    assert torch.equal(second.fan_out["relu1"], corner.expand(2, 3, 3))


@pytest.mark.parametrize("engine", ["folded", "unrolled"])
@pytest.mark.parametrize("kind", ["images", "frames"])
def test_spikes_times_fan_out_equal_a_count_spike_by_spike(engine: str, kind: str) -> None:
    network, images = counted_net("if", engine), input_images(kind)
    trains = spike_trains(counted_net("if", "unrolled"), images)
    expected = count_operations(trains)
    synapses = {s.layer: s for s in trace_synapses(network, images)}
    assert list(synapses) == ["conv1", "conv2", "shortcut", "conv3", "linear"]
    assert synapses["conv1"].fan_out == {}
    for layer, operations in expected.items():
        ((source, fan_out),) = synapses[layer].fan_out.items()
        counted = (trains[source] * fan_out).flatten(2).sum(2)
        assert counted.sum() > 0 and torch.equal(counted, operations), layer


def test_all_neurons_firing_make_the_operations_of_a_dense_input() -> None:
    for synapses in trace_synapses(counted_net("lif", "folded"), input_images()):
        if synapses.layer == "conv3":  # no pool before it, where a cell counts each of its spikes
            assert sum(f.sum() for f in synapses.fan_out.values()) == synapses.connections


def test_a_layer_fed_by_another_layer_has_no_spikes_as_input() -> None:
    class Chain(TwoLayers):
        def forward(self, images):
            x = self.conv1(self.present(images))
            return self.readout(torch.flatten(self.relu2(self.conv2(x)), 1))

    chain = Chain(NeuronSetting(timesteps=2))
    assert [s.fan_out for s in trace_synapses(chain, torch.zeros(1, 1, 3, 3))] == [{}, {}]


def test_every_weight_of_every_network_is_counted_once() -> None:
    for name in SPIKING:
        if "18" not in name and "11" not in name:
            continue
        network = create_model(name, NeuronSetting(timesteps=2), num_classes=3)
        size = (2, 2, 32, 32) if name.startswith("vgg") else (3, 32, 32)
        synapses = trace_synapses(network, torch.zeros(1, *size))
        weights = [n for n, p in network.named_parameters() if p.dim() > 1]
        assert len({s.layer for s in synapses}) == len(synapses) == len(weights)
        assert [s.layer for s in synapses if not s.fan_out] == [synapses[0].layer]


def test_tracing_leaves_the_network_as_it_was() -> None:
    network = counted_net("if", "folded").train()
    choice, before = network.choice, {k: v.clone() for k, v in network.state_dict().items()}
    trace_synapses(network, input_images())
    assert network.training and network.choice is choice
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(neuron.substitute is None for neuron in network.neurons().values())
