import math

import pytest
import torch
from torch import nn

from models import NeuronSetting, create_model, list_models
from tests.cifar.tiny_net import tiny_lif
from tests.imagenet.tiny_net import ann
from utils.training.non_finite import first_not_finite

IMAGES = torch.randn(4, 3, 32, 32)


class Overflowing(nn.Module):
    """Passes on what it gets but for one value."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        x = x.clone()
        x.view(-1)[0] = self.value
        return x


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("layer", ["conv1", "bn1", "linear", "bn2"])
def test_the_first_layer_is_named_before_neurons_that_hide_it(layer, value):
    net = tiny_lif(NeuronSetting(timesteps=2)).train()
    choice, hook = net.choice, Overflowing(value)
    getattr(net, layer).register_forward_hook(lambda module, inputs, output: hook(output))
    assert f"layer {layer} " in first_not_finite(net, IMAGES)
    assert net.choice is choice


def test_a_damaged_weight_is_named_by_its_layer():
    net = ann(None).train()
    with torch.no_grad():
        net.layer1[0].conv2.weight[0, 0, 0, 0] = math.nan
    assert "layer layer1.0.conv2 " in first_not_finite(net, IMAGES)


def test_images_and_gradients_are_told_from_layers():
    net = tiny_lif(NeuronSetting(timesteps=2)).train()
    assert "images" in first_not_finite(net, IMAGES * math.nan)
    assert "gradient of linear.weight" in first_not_finite(net, IMAGES, ["linear.weight"])
    assert "the loss or the sum" in first_not_finite(net, IMAGES)


def test_the_random_state_is_left_as_it_was():
    net = tiny_lif(NeuronSetting(timesteps=2), dropout=0.5).train()
    before = torch.get_rng_state()
    first_not_finite(net, IMAGES)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", [n for n in list_models() if "resnet18" in n and "cal" not in n])
def test_every_kind_of_network_can_be_looked_into(name):
    net = create_model(name, NeuronSetting(timesteps=2), 10).train()
    nn.init.constant_(net.conv1.weight, math.nan)
    assert "layer conv1 " in first_not_finite(net, torch.randn(2, net.in_channels, 32, 32))
