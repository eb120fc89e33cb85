"""The autograd functions of the folded engine at T = 1, against torch's own gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models import IFNeuron
from models.dynamics import Dynamics
from models.engines.folded import autograd as grad
from models.engines.folded.autograd import Means, NormSpec, handle, rows, unrows
from models.engines.folded.options import FoldedOptions
from models.engines.ops.dispatch import Kernels
from models.engines.ops.linear import Conv2d
from models.setting import NeuronSetting
from tests.models.networks import images, network

SHAPE = (3, 4, 5, 6)
OPTIONS = FoldedOptions(1, Kernels())


def draw(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def leaves(*shapes: tuple[int, ...]) -> list[Tensor]:
    """Return handles that record their gradients."""
    return [handle(draw(1), shape).clone().requires_grad_() for shape in shapes]


@pytest.mark.parametrize("shape", [SHAPE, (3, 4)], ids=("maps", "vectors"))
def test_rows_and_back(shape: tuple[int, ...]) -> None:
    a = draw(*shape)
    a = a.contiguous(memory_format=torch.channels_last) if a.dim() == 4 else a
    assert rows(a).shape == (a.numel() // 4, 4) and rows(a).data_ptr() == a.data_ptr()
    assert torch.equal(unrows(rows(a), shape), a)


def test_handles_take_no_memory() -> None:
    assert handle(draw(1), (1000, 1000)).untyped_storage().nbytes() == 8


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(training: bool) -> None:
    y, gamma, beta, g = draw(*SHAPE), draw(4).requires_grad_(), draw(4), draw(*SHAPE)
    mean, var = (y.mean((0, 2, 3)), y.var((0, 2, 3), correction=0)) if training else (0.1, 0.5)
    mean, var = torch.zeros(4).double() + mean, torch.zeros(4).double() + var
    inv_std = torch.rsqrt(var + 1e-5)
    yh = (y - mean.view(4, 1, 1)) * inv_std.view(4, 1, 1)
    u, v, k = leaves(SHAPE, SHAPE, (4,))
    spec, means = NormSpec(OPTIONS, training), Means(rows(yh), None, inv_std)
    beta.requires_grad_()
    z = grad.Normalise.apply(u, v, k, gamma, beta, spec, means, SHAPE)
    actual = torch.autograd.grad(z, (u, v, gamma, beta), g)
    y.requires_grad_()
    z = F.batch_norm(y, mean.clone(), var.clone(), gamma, beta, training)
    dy, dgamma, dbeta = torch.autograd.grad(z, (y, gamma, beta), g)
    for a, b in zip(actual, (dy, dy, dgamma, dbeta), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("bias_cancels", [True, False])
def test_a_weight(bias_cancels: bool) -> None:
    p, weight, bias, g = draw(3, 2, 5, 6), draw(4, 2, 3, 3), draw(4), draw(*SHAPE)
    weight.requires_grad_(), bias.requires_grad_()
    linear, amplitude = Conv2d((1, 1), (1, 1), (1, 1), 1), torch.tensor(0.5).double()
    (train,) = leaves(p.shape)
    spec = grad.WeighSpec(linear, 1, torch.float64, SHAPE, bias_cancels, False, None)
    u, v, _, _ = grad.Weigh.apply(train, weight, bias, spec, p, amplitude, None, None)
    R, dW, dbias = torch.autograd.grad((u, v), (train, weight, bias), (g, g))
    s = (p * amplitude).requires_grad_()
    expected = torch.autograd.grad(F.conv2d(s, weight, bias, padding=1), (s, weight, bias), g)
    torch.testing.assert_close((R, dW), expected[:2])
    torch.testing.assert_close(dbias, 0 * expected[2] if bias_cancels else expected[2])


def test_a_neuron_layer() -> None:
    d = Dynamics.integrate_and_fire(NeuronSetting(timesteps=1))
    x, g = draw(*SHAPE), draw(*SHAPE)
    layer = IFNeuron(timesteps=1, Vth=0.3, merged=True).double()
    z = x.clone().requires_grad_()
    expected = torch.autograd.grad(layer(z), (z, layer.Vth), g)
    inside, above = (x >= 0) & (x <= layer.Vth), x > layer.Vth
    (u,) = leaves(SHAPE)
    s = grad.Fire.apply(layer.Vth, rows(inside), rows(above), d, SHAPE, OPTIONS, u)
    torch.testing.assert_close(torch.autograd.grad(s, (u, layer.Vth), g), expected)


def test_a_sum_of_branches() -> None:
    handles = leaves(*(SHAPE, SHAPE, (4,)) * 2)
    u, v, k = grad.Join.apply(*handles)
    given = draw(*SHAPE), draw(*SHAPE), draw(4)
    found = torch.autograd.grad((u, v, k), handles, given)
    assert all(torch.equal(a, b) for a, b in zip(found, given * 2, strict=True))


def test_second_derivatives_are_refused() -> None:
    model = network("preresnet.resnet18_if", 2)
    logits = model(images("preresnet.resnet18_if", 2, 2))
    (first,) = torch.autograd.grad(logits.sum(), [model.linear.weight], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable|does not require grad"):
        first.sum().backward()
