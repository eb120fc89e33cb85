import subprocess
import sys

import pytest
import torch

from models.export import torch_module
from tests.models.export.odd_network import from_source, odd_images, odd_network
from tests.models.export.trained_network import digits, trained_network
from tests.models.networks import SPIKING, THRESHOLD, images, network

# One of each pair `_if`, `_lif`, in turn: their sources differ in constants alone.
ARCHITECTURES = SPIKING[0::4] + SPIKING[3::4]


def exported(model, dtype=torch.float64):
    return from_source(*torch_module.export(model, "a network", "weights.pth"), dtype)


def assert_equal_in_float32(model, x):
    """Where rounding decides whether a neuron fires, the unrolled engine decides likewise."""
    model.float().configure(engine="unrolled")
    torch.testing.assert_close(exported(model, torch.float32)(x), model(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["if", "lif"])
@torch.no_grad()
def test_outputs_on_all_test_digits_are_those_of_the_trained_network(kind):
    with torch.enable_grad():
        model = trained_network(kind)
    x, labels = digits()
    assert (model(x).argmax(1) == labels).float().mean() > 0.5
    assert_equal_in_float32(model, x)
    model.double().configure(engine="folded")
    torch.testing.assert_close(exported(model)(x.double()), model(x.double()), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_outputs_are_those_of_every_registered_architecture(name):
    model = network(name, timesteps=2, Vth=THRESHOLD[name.rsplit("_", 1)[1]] / 2).eval()
    x = images(name, timesteps=2, batch=2)
    outputs = model(x)
    assert torch.count_nonzero(outputs) > 0
    source, state = torch_module.export(model, name, "weights.pth")
    torch.testing.assert_close(from_source(source, state)(x), outputs, rtol=0, atol=1e-12)
    assert_equal_in_float32(model, x.float())
    lines = source.splitlines()
    assert len(lines) <= 125 and max(map(len, lines)) <= 100
    assert [line for line in lines if "import" in line] == ["import torch", "from torch import nn"]


@pytest.mark.parametrize("kind", ["if", "lif"])
@pytest.mark.parametrize("frames", [False, True])
@torch.no_grad()
def test_outputs_are_those_of_a_network_of_ones_own(kind, frames):
    model, x = odd_network(kind), odd_images(frames)
    outputs = model(x)
    assert torch.count_nonzero(outputs) > 0
    torch.testing.assert_close(exported(model)(x), outputs, rtol=0, atol=1e-12)


@torch.no_grad()
def test_fixed_thresholds_are_exported_and_bounded():
    model = odd_network("if", train_Vth=False)
    model.relu1.Vth.fill_(-1.0)
    network = exported(model)
    assert network.relu1.Vth == model.relu1.Vth_bound and network.relu2.Vth == model.relu2.Vth
    torch.testing.assert_close(network(odd_images()), model(odd_images()), rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_call_begins_without_potential_of_the_last():
    network = exported(odd_network("lif"))
    torch.testing.assert_close(network(odd_images()), network(odd_images()), rtol=0, atol=0)


def test_the_source_passes_the_linter(tmp_path):
    file = tmp_path / "exported.py"
    file.write_text(torch_module.export(odd_network("lif"), "a network", "weights.pth")[0])
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length=100"]
    done = subprocess.run([*command, "--select=E,F,I,W", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
