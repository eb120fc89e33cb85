"""What is recorded of a network's neurons, under both engines."""

from __future__ import annotations

import pytest
import torch

from models import IFNeuron, NeuronSetting
from models.dynamics import weighted_mean
from models.recording.recorder import Recorder
from tests.models.recording.counted_net import (
    TIMESTEPS,
    CountedNet,
    counted_net,
    input_images,
    spike_trains,
)

BOTH = [(kind, engine) for kind in ("if", "lif") for engine in ("folded", "unrolled")]


class Kept:
    """An observer that keeps everything."""

    def __init__(self) -> None:
        self.fired, self.actual, self.ideal = {}, {}, {}

    def spikes(self, layer, fired):
        self.fired[layer] = fired

    def representation(self, layer, actual, ideal):
        self.actual[layer], self.ideal[layer] = actual, ideal


@pytest.mark.parametrize(("kind", "engine"), BOTH)
@pytest.mark.parametrize("inputs", ["images", "frames"])
def test_spikes_and_representations(kind: str, engine: str, inputs: str) -> None:
    network, images, kept = counted_net(kind, engine), input_images(inputs), Kept()
    running = Recorder(network).record(images, kept)
    expected = spike_trains(counted_net(kind, "unrolled"), images)
    assert list(kept.fired) == list(expected) == list(kept.actual) == list(kept.ideal)
    for layer, train in expected.items():
        assert kept.fired[layer].dtype == torch.bool
        assert torch.equal(kept.fired[layer], train) and train.any(), layer
    with torch.no_grad():
        assert torch.equal(running[-1], network(images))
    assert running.shape == (TIMESTEPS, len(images), 3)


@pytest.mark.parametrize("kind", ["if", "lif"])
def test_the_ideal_representation_is_the_clamp_of_the_mean_input(kind: str) -> None:
    images, kept, inputs = input_images("frames"), Kept(), {}
    Recorder(counted_net(kind, "folded")).record(images, kept)
    network = counted_net(kind, "unrolled")
    for name, neuron in network.neurons().items():
        neuron.register_forward_pre_hook(lambda _, x, name=name: inputs.update({name: x[0]}))
    with torch.no_grad():
        network(images)
    d = network.dynamics
    for name, neuron in network.neurons().items():
        x = weighted_mean(inputs[name].unflatten(0, (TIMESTEPS, -1)), d)
        ideal = d.leak * torch.clamp(x, 0, (d.ceiling * neuron.Vth).item())
        torch.testing.assert_close(kept.ideal[name], ideal, rtol=1e-12, atol=1e-12)
        actual = d.amplitude * neuron.Vth * weighted_mean(kept.fired[name].double(), d)
        torch.testing.assert_close(kept.actual[name], actual, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("kind", "engine"), BOTH)
def test_the_output_after_t_steps_is_that_of_a_network_of_t_steps(kind: str, engine: str) -> None:
    network, images = counted_net(kind, engine), input_images()
    running = Recorder(network).record(images, Kept())
    for steps in range(1, TIMESTEPS + 1):
        neuron = type(network.relu1)
        setting = NeuronSetting(timesteps=steps, Vth=0.7, delta_t=0.4, alpha=0.5)
        shorter = CountedNet(neuron, setting).double().eval()
        shorter.load_state_dict(network.state_dict())
        shorter.configure(engine=engine, compile="off")
        with torch.no_grad():
            torch.testing.assert_close(running[steps - 1], shorter(images), rtol=1e-12, atol=1e-12)


def test_many_steps_approach_the_ideal_output() -> None:
    network, images = counted_net("if", "unrolled"), input_images(batch=2)
    longer = CountedNet(IFNeuron, NeuronSetting(timesteps=2000, Vth=0.7, alpha=0.5))
    longer.double().eval().load_state_dict(network.state_dict())
    with torch.no_grad():
        actual = longer(images)
    ideal = Recorder(longer).ideal_output(images)
    torch.testing.assert_close(actual, ideal, rtol=0, atol=0.01 * ideal.max().item())
    assert not torch.allclose(network(images), ideal, rtol=0, atol=0.05 * ideal.max().item())
