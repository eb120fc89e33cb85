import pytest
import torch

from models.export import spikingjelly_module
from models.export.units import identifier
from tests.models.export.odd_network import (
    from_source,
    odd_images,
    odd_network,
    outputs_and_spikes,
)
from tests.models.export.trained_network import digits, trained_network
from tests.models.networks import SPIKING, images, network
from utils.datasets.digits import digit_images

pytest.importorskip("spikingjelly", reason="requirements-simulators.txt is not installed")


@torch.no_grad()
def exported_outputs_and_spikes(model, x):
    """Return what the exported network gives, and its layers' spikes `(T, N, ...)`, by name."""
    exported = from_source(*spikingjelly_module.export(model, "a network", "weights.pth"))
    found = {name: [] for name, module in exported.named_children() if hasattr(module, "v_reset")}
    for name, train in found.items():
        exported.get_submodule(name).register_forward_hook(
            lambda _, __, spikes, train=train: train.append(spikes)
        )
    return exported(x), {name: torch.stack(train) for name, train in found.items()}


def assert_same_spikes(model, x):
    outputs, expected = outputs_and_spikes(model, x)
    found_outputs, found = exported_outputs_and_spikes(model, x)
    assert found.keys() == {identifier(name) for name in expected}
    for name, train in expected.items():
        assert torch.equal(found[identifier(name)], train.double()), name
    assert torch.count_nonzero(outputs) > 0
    torch.testing.assert_close(found_outputs, outputs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["preresnet.resnet18_if", "preresnet.resnet18_lif"])
def test_spikes_on_test_digits_are_the_same_at_every_step(name):
    x = digit_images()[1].images[:6].double() / 255
    assert_same_spikes(network(name, timesteps=3).eval(), (x - 0.3) / 0.3)


@pytest.mark.parametrize("kind", ["if", "lif"])
def test_spikes_of_a_trained_network_on_all_test_digits_are_the_same(kind):
    assert_same_spikes(trained_network(kind).double(), digits()[0].double())


@pytest.mark.parametrize(
    "name", [name for name in SPIKING if "11" in name or "snn.resnet18" in name]
)
def test_spikes_of_the_other_families_are_the_same(name):
    assert_same_spikes(network(name, timesteps=2).eval(), images(name, timesteps=2, batch=2))


@pytest.mark.parametrize("kind", ["if", "lif"])
@pytest.mark.parametrize("frames", [False, True])
def test_spikes_of_a_network_of_ones_own_are_the_same(kind, frames):
    assert_same_spikes(odd_network(kind), odd_images(frames))


@pytest.mark.parametrize("kind", ["if", "lif"])
@torch.no_grad()
def test_many_steps_can_be_computed_at_once(kind):
    from spikingjelly.activation_based import functional

    model, x = odd_network(kind), odd_images(frames=True)
    source, state = spikingjelly_module.export(model, "a network", "weights.pth")
    exported = from_source(source, state)
    expected = exported_outputs_and_spikes(model, x)[1]["head_2"]
    functional.set_step_mode(exported, "m")
    assert torch.equal(exported.step(x.transpose(0, 1)), expected)


def test_the_last_layers_spikes_are_binary():
    _, spikes = exported_outputs_and_spikes(odd_network("lif"), odd_images())
    assert spikes["head_2"].unique().tolist() == [0, 1]
