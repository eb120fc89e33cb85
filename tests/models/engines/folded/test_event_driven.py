"""The folded engine with linear maps of spikes computed event-driven."""

from __future__ import annotations

import copy
import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn

from models import IFNeuron, LIFNeuron, NeuronSetting
from models.engines.folded import FoldedEngine
from models.engines.ops import native_build
from models.engines.ops.dispatch import Kernels
from models.engines.ops.linear import Conv2d
from models.engines.ops.sparse import events
from models.engines.ops.sparse.event_driven import ALWAYS, Crossings
from tests.models.networks import SPIKING, assert_equal_steps, distance, images, network, step

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, native_build.COMPILERS)), reason="no C++ compiler"
)


@pytest.fixture
def calls(monkeypatch) -> dict[str, int]:
    """How often compiled functions, by name, and dense convolutions ("dense") are called."""
    counts: dict[str, int] = {}
    compiled, dense = events._call, Conv2d.__call__

    def count_compiled(name: str, *args) -> None:
        counts[name] = counts.get(name, 0) + 1
        compiled(name, *args)

    def count_dense(*args) -> torch.Tensor:
        counts["dense"] = counts.get("dense", 0) + 1
        return dense(*args)

    monkeypatch.setattr(events, "_call", count_compiled)
    monkeypatch.setattr(Conv2d, "__call__", count_dense)
    return counts


@pytest.mark.parametrize("name", SPIKING)
@pytest.mark.parametrize("timesteps", [1, 3])
def test_every_gradient(name: str, timesteps: int, calls) -> None:
    model = network(name, timesteps)
    reference = copy.deepcopy(model)
    reference.configure(engine="unrolled")
    model.configure(engine="folded", event_driven="always")
    calls.clear()  # of the check of the compiled code
    dtypes = []
    for neuron in model.neurons().values():
        neuron.register_forward_hook(lambda *args: dtypes.append(args[2].values.dtype))
    x = images(name, timesteps, 3)
    assert_equal_steps(step(model, x), step(reference, x))
    assert set(dtypes) == {torch.uint8}
    assert calls["dense"] == 1  # the network's input is no spike train
    forward = calls.get("sum", 0) + calls["sum_with_statistics"]
    assert forward >= 7 and calls["weight_grad"] >= (2 if timesteps > 1 else 1) * forward - 1


@pytest.mark.parametrize(
    "name", ["preresnet.resnet18_if", "vgg.vgg11_lif", "preresnet_snn.resnet18_lif"]
)
def test_evaluation(name: str, calls) -> None:
    model, x = network(name, 3).eval(), images(name, 3, 2)
    with torch.no_grad():
        model.configure(engine="unrolled")
        expected = model(x)
        model.configure(engine="folded", event_driven="always")
        calls.clear()
        assert distance(model(x), expected) <= 1e-12
    assert calls["sum_and_fire"] > calls.get("sum", 0)


def pooled(timesteps: int, size: int, crossings: Crossings | None):
    """Return the output and the gradients of two neuron layers with a pool between them."""
    torch.manual_seed(0)
    setting = NeuronSetting(timesteps=timesteps, Vth=0.1)
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        IFNeuron(setting),
        nn.AvgPool2d(size),
        nn.Conv2d(8, 6, 1),
        nn.BatchNorm2d(6),
        LIFNeuron(setting),
    ).double()
    engine = FoldedEngine(timesteps, Kernels(), crossings=crossings)
    x = torch.randn(2, 3, 2 * size, 2 * size, dtype=torch.float64)
    rates = engine.readout(layers(engine.present(x)), layers[6].dynamics)
    rates.backward(torch.cos(torch.arange(rates.numel())).view_as(rates).double())
    return rates.detach(), [p.grad for p in layers.parameters()]


@pytest.mark.parametrize(("timesteps", "size"), [(4, 2), (100, 2), (300, 2), (2, 17)])
def test_counts_that_do_not_fit_a_byte(timesteps: int, size: int) -> None:
    rates, grads = pooled(timesteps, size, ALWAYS)
    expected_rates, expected = pooled(timesteps, size, None)
    assert distance(rates, expected_rates) <= 1e-12
    assert all(distance(a, b) <= 1e-10 for a, b in zip(grads, expected, strict=True))


@pytest.mark.parametrize(("crossing", "event_driven"), [(0.0, False), (0.99, True)])
def test_the_counted_rate_decides(crossing: float, event_driven: bool, calls) -> None:
    model = network("preresnet.resnet18_lif", 3)
    engine = FoldedEngine(3, Kernels(), crossings=Crossings(crossing, crossing, "test"))
    model.choice = replace(model.choice, training=engine)
    step(model, images("preresnet.resnet18_lif", 3, 8))
    assert (calls.get("sum_with_statistics", 0) > 10) == event_driven
    assert (calls["dense"] == 1) == event_driven  # the network's input is no spike train


def test_bf16_is_rounded_as_the_dense_computation() -> None:
    setting, grads = NeuronSetting(timesteps=6, Vth=0.2), []
    for crossings in (None, ALWAYS):
        torch.manual_seed(0)
        layers = nn.Sequential(
            nn.Conv2d(8, 16, 3),
            nn.BatchNorm2d(16),
            LIFNeuron(setting),
            nn.Conv2d(16, 9, 3),
            nn.BatchNorm2d(9),
            LIFNeuron(setting),
        )
        engine = FoldedEngine(6, Kernels(), torch.bfloat16, crossings=crossings)
        train = layers(engine.present((torch.rand(4, 6, 8, 12, 12) > 0.7).float()))
        rates = engine.readout(train, layers[5].dynamics)
        rates.backward(torch.cos(torch.arange(rates.numel())).view_as(rates))
        grads.append({name: p.grad for name, p in layers.named_parameters()})
    for name, grad in grads[0].items():
        if not name.endswith(".bias"):
            assert distance(grads[1][name], grad) < 0.1, name  # masks flip at their edges
