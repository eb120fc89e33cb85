"""The neurons as functions, against the layers."""

from __future__ import annotations

import pytest
import torch

from models import IFNeuron, LIFNeuron, functional
from models.functional import integrate_and_fire, leaky_integrate_and_fire

CASES = [
    (IFNeuron, integrate_and_fire, {"alpha": 0.5}),
    (LIFNeuron, leaky_integrate_and_fire, {"alpha": 0.4, "tau": 2.0, "delta_t": 0.5}),
]


@pytest.mark.parametrize("neuron, function, constants", CASES, ids=("if", "lif"))
def test_functions_are_the_layers(neuron, function, constants: dict) -> None:
    z = 3 * torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    layer = neuron(timesteps=5, Vth=0.3, **constants).double()
    Vth = layer.Vth.detach().clone().requires_grad_()
    results = []
    for call in (layer, lambda z: function(z, Vth, **constants)):
        input = z.clone().requires_grad_()
        s = call(input)
        s.mul(torch.arange(s.numel()).view_as(s)).sum().backward()
        results.append((s.detach(), input.grad))
    for actual, expected in zip(*results, strict=True):
        assert torch.equal(actual, expected) and actual.any()
    assert torch.equal(Vth.grad, layer.Vth.grad) and Vth.grad != 0


@pytest.mark.parametrize("neuron, function, constants", CASES, ids=("if", "lif"))
def test_thresholds_may_be_numbers(neuron, function, constants: dict) -> None:
    z = torch.rand(4, 3, 4, generator=torch.Generator().manual_seed(0))
    s = function(z, 0.3, **constants)
    assert torch.equal(s, function(z, torch.tensor(0.3), **constants)) and s.any()
    assert function(z.bfloat16(), 0.3).dtype == torch.float32


def test_the_weighted_mean_is_that_of_the_layer() -> None:
    s = torch.rand(4, 3, 2)
    layer = LIFNeuron(timesteps=4, tau=2.0, delta_t=0.5)
    actual = functional.weighted_mean(s, tau=2.0, delta_t=0.5)
    assert torch.equal(actual, layer.representation(s))


def test_one_dimension_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \(T, N, \.\.\.\)"):
        integrate_and_fire(torch.rand(4))
