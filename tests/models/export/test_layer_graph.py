import re

import pytest
import torch
from torch import nn

from models import NeuronSetting, create_model
from models.export.layer_graph import ExportError, calls, layer_graph, require_spiking, thresholds
from models.network import SpikingNetwork
from tests.models.export.odd_network import odd_network


class OneLayer(SpikingNetwork):
    in_channels = 2

    def __init__(self, neuron, setting):
        super().__init__(setting)
        self.conv = nn.Conv2d(2, 3, 1)
        self.relu = neuron(setting)

    def forward(self, images):
        return self.readout(self.relu(self.conv(self.present(images))))


class CalledTwice(OneLayer):
    def forward(self, images):
        x = self.relu(self.conv(self.present(images)))
        return self.readout(self.relu(x))


class Multiplied(OneLayer):
    def forward(self, images):
        return self.readout(2 * self.relu(self.conv(self.present(images))))


class Conditional(OneLayer):
    def forward(self, images):
        x = self.conv(self.present(images))
        return self.readout(self.relu(x if x.sum() > 0 else -x))


def test_a_network_without_neurons_is_refused():
    ann = create_model("preresnet_ann.resnet18", NeuronSetting(), num_classes=3)
    with pytest.raises(ExportError, match="no spiking neurons"):
        require_spiking(ann)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (CalledTwice, "neurons relu are called 2 times"),
        (Multiplied, "uses mul; only layers and sums"),
        (Conditional, "Conditional's forward pass is not a fixed graph"),
    ],
)
def test_forward_passes_that_are_no_graph_of_layers_are_refused(network, reason):
    with pytest.raises(ExportError, match=reason):
        list(calls(layer_graph(odd_network("if", network))))


def test_neuron_layers_of_two_kinds_are_refused():
    network = odd_network("if")
    network.relu3 = odd_network("lif").relu3
    with pytest.raises(ExportError, match="differ in more than their thresholds"):
        require_spiking(network)


def test_thresholds_are_those_of_the_forward_pass():
    network = odd_network("if", OneLayer)
    with torch.no_grad():
        network.relu.Vth.fill_(-1.0)
    assert thresholds(network) == {"relu": network.relu.Vth_bound}
    assert network.relu.Vth == -1.0


def test_the_graph_holds_one_timestep():
    names = [str(node.target) for node in calls(layer_graph(odd_network("if")))]
    assert names[:3] == ["conv1", "pool1", "relu1"] and names[-1] == "head.2"
    assert not [name for name in names if re.search("present|readout", name)]
