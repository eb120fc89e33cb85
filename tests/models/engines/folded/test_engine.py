"""The folded engine against the unrolled one, its reference: whole networks, every gradient."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models import IFNeuron, LIFNeuron, NeuronSetting
from models.engines.folded import FoldedEngine
from models.engines.ops.dispatch import Kernels
from models.preresnet import BasicBlock, Bottleneck, PreActResNet
from tests.models.networks import (
    SPIKING,
    Step,
    assert_equal_steps,
    distance,
    images,
    network,
    step,
)


def both_engines(model: nn.Module, x: torch.Tensor) -> tuple[Step, Step]:
    """Return one step with the folded engine and one of a copy with the unrolled engine."""
    copied = copy.deepcopy(model)
    model.configure(engine="folded")
    copied.configure(engine="unrolled")
    return step(model, x), step(copied, x)


@pytest.mark.parametrize("name", SPIKING)
@pytest.mark.parametrize("timesteps", [1, 2, 5])
@pytest.mark.parametrize("batch", [1, 3])
def test_every_gradient(name: str, timesteps: int, batch: int) -> None:
    model = network(name, timesteps)
    if batch == 1:
        # Batch statistics of the head over one image leave no gradient to compare: it is constant
        # over time and subtracted with its mean. Nor does a saturated class have any.
        next(m for m in model.modules() if isinstance(m, nn.BatchNorm1d)).eval()
        [*model.neurons().values()][-1].Vth.data.fill_(20.0)
    folded, unrolled = both_engines(model, images(name, timesteps, batch))
    assert_equal_steps(folded, unrolled)
    assert sum(g.norm() > 1e-11 for g in folded.grads.values()) > len(folded.grads) / 3


@pytest.mark.parametrize("name", ["preresnet.resnet18_lif", "preresnet_snn.resnet18_if"])
def test_gradients_in_evaluation_mode(name: str) -> None:
    model = network(name, 3).eval()
    assert_equal_steps(*both_engines(model, images(name, 3, 2)))


@pytest.mark.parametrize("name", ["preresnet.resnet18_if", "vgg.vgg11_lif"])
def test_fixed_thresholds(name: str) -> None:
    model = network(name, 3, train_Vth=False)
    assert not any(key.endswith("Vth") for key in model.state_dict())
    assert_equal_steps(*both_engines(model, images(name, 3, 2)))


def test_frozen_weights_get_no_gradient() -> None:
    model = network("preresnet.resnet18_lif", 3)
    model.layer2.requires_grad_(False)
    model.bn1.eval()
    folded, unrolled = both_engines(model, images("preresnet.resnet18_lif", 3, 2))
    frozen = [name for name, grad in folded.grads.items() if grad is None]
    assert frozen == [name for name, grad in unrolled.grads.items() if grad is None] != []
    for name in folded.grads.keys() - frozen:
        assert distance(folded.grads[name], unrolled.grads[name]) <= 1e-10, name


def losses(model: nn.Module, x: torch.Tensor, steps: int, lr: float) -> list[float]:
    """Return the losses of steps of SGD on one batch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    found = []
    for _ in range(steps):
        found.append(step(model, x).loss)
        optimizer.step()
    return found


@pytest.mark.parametrize("name", ["preresnet.resnet18_lif", "vgg.vgg11_if"])
def test_ten_steps_of_sgd(name: str) -> None:
    x, found = images(name, 2, 3), {}
    for engine in ("folded", "unrolled"):
        model = network(name, 2)
        model.configure(engine=engine)
        found[engine] = losses(model, x, 10, lr=0.02)
    assert found["folded"] == pytest.approx(found["unrolled"], rel=1e-8)
    assert found["folded"][-1] < found["folded"][0]


@pytest.mark.parametrize("Vth", [6.0, 2.7, 0.3], ids=("dyadic", "decimal", "low"))
def test_twenty_steps_of_sgd_with_ties_after_the_pool(Vth: float) -> None:
    """The thresholds before and after the pool are equal, so that averages of spikes meet them."""
    setting = NeuronSetting(timesteps=5, Vth=Vth, alpha=0.5, Vth_bound=0.01)
    x, found = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double(), {}
    for engine in ("folded", "unrolled"):
        torch.manual_seed(0)
        model = PreActResNet(BasicBlock, (1, 1, 1, 1), IFNeuron, setting, width=8).double()
        model.configure(engine=engine)
        found[engine] = losses(model, x, 20, lr=0.1)
    assert found["folded"] == pytest.approx(found["unrolled"], rel=0, abs=1e-12)
    assert len(set(found["folded"])) > 10


@pytest.mark.parametrize("name", SPIKING)
def test_evaluation(name: str) -> None:
    model = network(name, 4).eval()
    x = images(name, 4, 2)
    with torch.no_grad():
        model.configure(engine="unrolled")
        expected = model(x)
        model.configure(engine="folded")
        assert distance(model(x), expected) <= 1e-12


@pytest.mark.parametrize("neuron", [IFNeuron, LIFNeuron])
def test_bottleneck_of_the_cifar_network(neuron) -> None:
    setting = NeuronSetting(timesteps=2, Vth=0.1)
    torch.manual_seed(0)
    model = PreActResNet(Bottleneck, (1, 1, 1, 1), neuron, setting, width=8).double()
    assert_equal_steps(*both_engines(model, images("preresnet", 2, 2)))


def test_rate_engine_keeps_all_but_convolution_weights_exact() -> None:
    name = "preresnet_snn.resnet18_lif"
    model, x = network(name, 5), images(name, 5, 3)
    rate = copy.deepcopy(model)
    rate.configure(engine="rate")
    assert "APPROXIMATE" in rate.engine_line()
    approximate, (exact, _) = step(rate, x), both_engines(model, x)
    assert approximate.loss == pytest.approx(exact.loss, rel=1e-12)
    for key, grad in exact.grads.items():
        if grad.dim() != 4:
            assert distance(approximate.grads[key], grad) <= 1e-10, key
        elif key != "conv1.weight":  # nothing is dropped for the static image
            assert distance(approximate.grads[key], grad) > 1e-6, key
            assert F.cosine_similarity(approximate.grads[key].flatten(), grad.flatten(), 0) > 0.9


@pytest.mark.parametrize("neuron", [IFNeuron, LIFNeuron])
def test_bf16_is_close_to_float64(neuron) -> None:
    # One layer: in deeper untrained networks, every spike that flips is amplified.
    setting = NeuronSetting(timesteps=6, Vth=0.2)
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), neuron(setting)).double()
    frames = (torch.rand(4, 6, 8, 12, 12) > 0.7).double()
    results = []
    for dtype, precision in ((torch.float64, None), (torch.float32, torch.bfloat16)):
        layer = layer.to(dtype)
        layer.zero_grad()
        engine = FoldedEngine(6, Kernels(), precision)
        rates = engine.readout(layer(engine.present(frames.to(dtype))), layer[2].dynamics)
        assert rates.dtype == dtype
        rates.backward(torch.cos(torch.arange(rates.numel())).view_as(rates).to(dtype))
        grads = {name: p.grad.double() for name, p in layer.named_parameters()}
        results.append((rates.detach().double(), grads))
    (exact, exact_grads), (close, close_grads) = results
    assert distance(close, exact) < 0.1
    for name in ("0.weight", "1.weight", "1.bias", "2.Vth"):  # masks flip at their edges
        assert distance(close_grads[name], exact_grads[name]) < 0.1, name
