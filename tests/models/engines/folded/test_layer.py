"""Single layers of the folded engine: kinds of branches, and neurons on the input."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models import IFNeuron, LIFNeuron, NeuronSetting, SpikingNetwork
from models.engines.folded import FoldedEngine
from models.engines.ops.dispatch import Kernels
from models.engines.unrolled import UnrolledEngine
from tests.models.networks import assert_equal_steps, step


class PooledResidual(SpikingNetwork):
    """A residual of pooled spikes, and convolutions called with plain numbers."""

    in_channels = 3

    def __init__(self, setting: NeuronSetting) -> None:
        super().__init__(setting)
        self.convs = nn.ModuleList(nn.Conv2d(c, 6, 3, padding=1) for c in (3, 6, 6))
        self.bns = nn.ModuleList(nn.BatchNorm2d(6) for _ in range(3))
        self.fires = nn.ModuleList(LIFNeuron(setting) for _ in range(3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.fires[0](self.bns[0](self.convs[0](self.present(images))))
        x = F.avg_pool2d(x, 2)
        out = self.fires[1](self.bns[1](F.conv2d(x, self.convs[1].weight, padding=1)))
        out = self.fires[2](self.bns[2](self.convs[2](out) + x))
        return self.readout(F.adaptive_avg_pool2d(out, 1)).flatten(1)


def test_a_residual_of_pooled_spikes() -> None:
    torch.manual_seed(2)
    model = PooledResidual(NeuronSetting(timesteps=4, Vth=0.1)).double()
    x, steps = torch.randn(3, 3, 8, 8).double(), []
    for engine in ("folded", "unrolled"):
        copied = copy.deepcopy(model)
        copied.configure(engine=engine)
        steps.append(step(copied, x))
    # A bias that its BatchNorm subtracts again, and one that is not used, have no gradient.
    for step_ in steps:
        for key in [key for key in step_.grads if key.startswith("convs") and "bias" in key]:
            del step_.grads[key]
    assert_equal_steps(*steps)


@pytest.mark.parametrize("norm", [nn.Identity(), nn.BatchNorm2d(3)], ids=("bare", "norm"))
def test_neurons_directly_on_the_input(norm: nn.Module) -> None:
    frames = torch.rand(2, 4, 3, 5, 5, dtype=torch.float64)
    grads = []
    for engine in (FoldedEngine(4, Kernels()), UnrolledEngine(4)):
        layer = nn.Sequential(
            copy.deepcopy(norm), LIFNeuron(timesteps=4, Vth=0.02, merged=True)
        ).double()
        rates = engine.readout(layer(engine.present(frames)), layer[1].dynamics)
        rates.square().sum().backward()
        grads.append([p.grad for p in layer.parameters()])
    for actual, expected in zip(*grads, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)
    assert sum(g.abs().sum() for g in grads[0]) > 0


POOLS = {
    "avg": nn.AvgPool2d(4),
    "padded": nn.AvgPool2d(3, stride=2, padding=1),
    "global": nn.AdaptiveAvgPool2d(1),
    "twice": nn.Sequential(nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(3)),
}


@pytest.mark.parametrize("bound", [0.01, 1.3], ids=("free", "at_the_floor"))
@pytest.mark.parametrize("drive", [0.6, 5.0], ids=("ties", "saturated"))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=("fp64", "fp32"))
@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_neurons_on_pooled_spikes_decide_as_published(pool, dtype, drive, bound) -> None:
    """Spikes are equal bit for bit where averages of `Vth * {0, 1}` meet `alpha * Vth` exactly."""
    T = 5
    z = torch.rand(3, T, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=dtype) * drive
    for Vth in (0.75, 0.3, 1 / 3, 2.7):
        setting, results = NeuronSetting(timesteps=T, alpha=0.5, Vth_bound=bound), []
        for engine in (FoldedEngine(T, Kernels()), UnrolledEngine(T)):
            first, second = (IFNeuron(setting, merged=True).to(dtype) for _ in range(2))
            for neuron in (first, second):
                neuron.Vth.data.fill_(Vth)
            train = second(pool(first(engine.present(z * max(Vth, bound)))))
            rates = engine.readout(train, second.dynamics)
            rates.square().sum().backward()
            results.append((rates.detach(), second.Vth.grad))
        (rates, dVth), (expected, expected_dVth) = results
        assert torch.equal(rates, expected)
        torch.testing.assert_close(dVth, expected_dVth)


def test_a_batch_norm_of_one_value_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 1 value"):
        one = FoldedEngine(1, Kernels()).present(torch.rand(1, 3, 1, 1))
        IFNeuron(NeuronSetting(timesteps=1))(nn.BatchNorm2d(5)(nn.Conv2d(3, 5, 1)(one)))
