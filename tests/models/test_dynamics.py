"""The equations of the neurons: constants, one step, and the ends of the interval."""

from __future__ import annotations

import math

import pytest
import torch

from models import NeuronSetting
from models.dynamics import Dynamics, accumulator, masks, step, weighted_mean

SETTING = NeuronSetting(timesteps=4, alpha=0.5, tau=2.0, delta_t=0.5)
IF, LIF = Dynamics.integrate_and_fire(SETTING), Dynamics.leaky_integrate_and_fire(SETTING)


@pytest.mark.parametrize("d", [IF, LIF], ids=("if", "lif"))
def test_weights_sum_to_one_and_favour_late_steps(d: Dynamics) -> None:
    assert sum(d.weights) == pytest.approx(1)
    assert d.uniform == (d is IF)
    for early, late in zip(d.weights, d.weights[1:], strict=False):
        assert early / late == pytest.approx(d.decay)
    a = torch.rand(4, 3)
    expected = (torch.tensor(d.weights).view(4, 1) * a).sum(0)
    torch.testing.assert_close(weighted_mean(a, d), expected)


def test_one_step_has_equal_weights() -> None:
    assert Dynamics.leaky_integrate_and_fire(NeuronSetting(timesteps=1)).uniform


def test_a_step_of_each_neuron() -> None:
    Vth, u, z = torch.tensor(1.0), torch.tensor([0.0, 0.25, 0.75]), torch.tensor([0.4, 0.25, 1.0])
    after, fired = step(u, z, Vth, IF)
    assert fired.tolist() == [False, True, True]  # fires at alpha * Vth, ties included
    torch.testing.assert_close(after, torch.tensor([0.4, -0.5, 0.75]))
    after, fired = step(u, z, Vth, LIF)
    decay = math.exp(-0.25)
    torch.testing.assert_close(after + fired * Vth, decay * u + (1 - decay) * z)


def test_only_the_interval_of_if_has_its_ends() -> None:
    Vth = torch.tensor(0.5)
    for d, closed in ((IF, True), (LIF, False)):
        assert d.interval_closed == closed
        top = d.ceiling * 0.5
        inside, above = masks(torch.tensor([-0.1, 0.0, top / 2, top, top + 0.1]), Vth, d)
        assert inside.tolist() == [False, closed, True, closed, False]
        assert above.tolist() == [False, False, False, False, True]


def test_sums_are_never_narrower_than_float32() -> None:
    types = (torch.bfloat16, torch.float32, torch.float64)
    assert [accumulator(t) for t in types] == [torch.float32, torch.float32, torch.float64]
