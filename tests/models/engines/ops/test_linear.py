"""Both gradients of each linear map against autograd; convolutions by patches too."""

from __future__ import annotations

import pytest
import torch

from models.engines.ops.linear import Conv2d, Linear

CONVOLUTIONS = [
    (Conv2d((1, 1), (1, 1), (1, 1), 1), (6, 4, 3, 3)),
    (Conv2d((2, 2), (1, 1), (1, 1), 1), (6, 4, 3, 3)),
    (Conv2d((2, 2), (0, 0), (1, 1), 1), (6, 4, 1, 1)),
    (Conv2d((2, 1), (3, 2), (2, 1), 1), (6, 4, 3, 5)),
    (Conv2d((1, 1), (1, 1), (1, 1), 2), (6, 2, 3, 3)),
]


def draw(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def by_autograd(linear, p, weight):
    p, weight = p.clone().requires_grad_(), weight.clone().requires_grad_()
    y = linear(p, weight, None)
    dy = torch.cos(torch.arange(y.numel(), dtype=y.dtype)).view_as(y)
    return dy, *torch.autograd.grad(y, (p, weight), dy)


@pytest.mark.parametrize(("linear", "shape"), CONVOLUTIONS)
def test_convolution(linear: Conv2d, shape: tuple[int, ...]) -> None:
    p, weight = draw(3, 4, 9, 8), draw(*shape)
    dy, dp, dweight = by_autograd(linear, p, weight)
    torch.testing.assert_close(linear.input_grad(dy, weight, p.shape), dp)
    torch.testing.assert_close(linear.weight_grad(dy, p, weight.shape), dweight)
    if linear.groups == 1:
        torch.testing.assert_close(linear.weight_grad_by_patches(dy, p, weight.shape), dweight)


def test_linear() -> None:
    p, weight = draw(3, 5), draw(7, 5)
    dy, dp, dweight = by_autograd(Linear(), p, weight)
    torch.testing.assert_close(Linear().input_grad(dy, weight, p.shape), dp)
    torch.testing.assert_close(Linear().weight_grad(dy, p, weight.shape), dweight)


def test_patches_are_for_small_maps_on_tiles(monkeypatch) -> None:
    linear, shape = CONVOLUTIONS[0]
    p = torch.randn(3, 4, 8, 8).bfloat16()
    dy = linear(p, torch.randn(shape).bfloat16(), None)
    expected = linear.weight_grad(dy.double(), p.double(), shape)
    for tiles in (False, True):
        monkeypatch.setattr("models.engines.ops.linear.has_tiles", lambda tiles=tiles: tiles)
        close = linear.weight_grad(dy, p, torch.Size(shape)).double()
        assert (close - expected).norm() / expected.norm() < 1e-2
