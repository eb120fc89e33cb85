"""The reference implementation of the passes: what they compute, and how precisely."""

from __future__ import annotations

import pytest
import torch

from models import NeuronSetting
from models.dynamics import Dynamics
from models.engines.ops import reference
from models.engines.ops.reference import Affine

SETTING = NeuronSetting(timesteps=3, Vth=0.5, delta_t=0.25)
KINDS = (Dynamics.integrate_and_fire(SETTING), Dynamics.leaky_integrate_and_fire(SETTING))


def draw(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("d", KINDS, ids=("if", "lif"))
@pytest.mark.parametrize("norm", [True, False], ids=("norm", "bare"))
def test_counts_means_and_masks_are_those_of_the_equations(d: Dynamics, norm: bool) -> None:
    y, Vth = draw(3, 40, 8), torch.tensor(0.5, dtype=torch.float64)
    affine = Affine(*draw(4, 8).abs()) if norm else None
    folded = reference.fold(y, None, affine, Vth, d, torch.float64)
    z = affine.gamma * (y - affine.mean) * affine.inv_std + affine.beta if norm else y
    assert torch.equal(folded.spikes, reference.spikes(y, affine, Vth, d, torch.float64))
    assert torch.equal(folded.count, folded.spikes.sum(0).to(torch.uint8)) and folded.count.any()
    v = torch.tensor(d.weights, dtype=torch.float64).view(-1, 1, 1)
    yh = (y - affine.mean) * affine.inv_std if norm else y
    torch.testing.assert_close(folded.mean_u, yh.mean(0))
    if not d.uniform:
        torch.testing.assert_close(folded.mean_v, (v * yh).sum(0))
    x = (v * z).sum(0)
    assert torch.equal(folded.inside, (x > 0) & (x < d.ceiling * Vth))
    assert torch.equal(folded.above, x > d.ceiling * Vth)


@pytest.mark.parametrize("d", KINDS, ids=("if", "lif"))
def test_a_current_may_be_centred_beforehand(d: Dynamics) -> None:
    y, Vth, affine = draw(3, 40, 8), torch.tensor(0.5).double(), Affine(*draw(4, 8).abs())
    expected = reference.fold(y, None, affine, Vth, d, torch.float64)
    mean = reference.centre_(y)
    assert y.mean(0).abs().max() < 1e-14
    actual = reference.fold(y, mean, affine, Vth, d, torch.float64)
    torch.testing.assert_close(actual, expected)


def test_statistics_are_those_of_all_rows() -> None:
    y = draw(3, 40, 8) + 100
    expected = torch.var_mean(y, (0, 1), correction=0)
    centred, time_mean = y - y.mean(0), y.mean(0)
    found = reference.statistics_(y, centre=True)
    torch.testing.assert_close((found.var, found.mean), expected)
    torch.testing.assert_close((y, found.time_mean), (centred, time_mean))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [7, 1000, 3_000_000])
def test_statistics_keep_all_digits(rows: int, dtype: torch.dtype) -> None:
    y = (7.4 + 0.3 * torch.randn(rows, 2, generator=torch.Generator().manual_seed(0))).to(dtype)
    mean, var = reference.channel_statistics(y)
    assert mean.dtype == var.dtype == torch.promote_types(dtype, torch.float32)
    exact_var, exact_mean = torch.var_mean(y.double(), dim=0, correction=0)
    torch.testing.assert_close(mean.double(), exact_mean, rtol=1e-7, atol=0)
    torch.testing.assert_close(var.double(), exact_var, rtol=1e-7, atol=0)


def test_gradients_are_those_of_the_equations() -> None:
    R, mean_u, mean_v, slopes = draw(40, 8), draw(1, 40, 8)[0], draw(1, 1, 40, 8)[0, 0], draw(3, 8)
    inside, above = mean_u > 0, mean_v > 0
    g, total = reference.fire_grad(R, inside, above, 0.3)
    torch.testing.assert_close((g, total), (torch.where(inside, 0.3 * R, 0.0), R[above].sum()))
    bits = [(m.view(-1, 8) * 2 ** torch.arange(8)).sum(1).to(torch.uint8) for m in (inside, above)]
    torch.testing.assert_close(reference.fire_grad(R, *bits, 0.3), (g, total))
    torch.testing.assert_close(reference.norm_sums(g, mean_u), (g.sum(0), (g * mean_u).sum(0)))
    m1, slope, tilt = slopes
    for mean_v_or_none in (mean_v, None):
        second = mean_u if mean_v_or_none is None else mean_v
        expected = tuple(slope * (g - m1) - tilt * mean for mean in (mean_u, second))
        actual = reference.norm_grad(g, (mean_u, mean_v_or_none), *slopes)
        torch.testing.assert_close(actual, expected)
