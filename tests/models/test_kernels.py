"""The compiled elementwise passes against their eager twins, on one compilation for all sizes."""

from __future__ import annotations

import pytest
import torch

from models import NeuronSetting, dynamics, kernels
from models.dynamics import Affine, Dynamics

FAULT = kernels.compiler_fault(torch.device("cpu"))
needs_compiler = pytest.mark.skipif(FAULT is not None, reason=f"no working compiler: {FAULT}")
SETTING = NeuronSetting(timesteps=3, Vth=0.5, delta_t=0.25)
KINDS = (Dynamics.integrate_and_fire(SETTING), Dynamics.leaky_integrate_and_fire(SETTING))


def draw(timesteps: int, rows: int, channels: int):
    generator = torch.Generator().manual_seed(rows)
    y = torch.randn(timesteps, rows, channels, generator=generator)
    scale = torch.rand(2, channels, generator=generator) + 0.5
    return y, Affine(scale[0] - 1, scale[1], scale[0], scale[1] - 1)


@pytest.mark.parametrize("d", KINDS, ids=("if", "lif"))
def test_a_current_may_be_centred_beforehand(d: Dynamics) -> None:
    y, affine = draw(3, 40, 8)
    y, affine = y.double(), Affine(*(a.double() for a in affine))
    Vth = torch.tensor(0.5).double()
    whole = dynamics.fold(y, None, affine, Vth, d, torch.float64)
    mean = dynamics.centre_(y)
    assert y.mean(0).abs().max() < 1e-14
    torch.testing.assert_close(dynamics.fold(y, mean, affine, Vth, d, torch.float64), whole)


@needs_compiler
@pytest.mark.parametrize("d", KINDS, ids=("if", "lif"))
def test_compiled_kernels(d: Dynamics) -> None:
    torch._dynamo.reset()
    fused = kernels.compiled()
    Vth = torch.tensor(0.5)
    for rows, channels in ((3000, 32), (1700, 48)):  # the second size compiles nothing anew
        y, affine = draw(3, rows, channels)
        actual = fused.spikes(y, affine, Vth, d, torch.float32)
        torch.testing.assert_close(actual, dynamics.spikes(y, affine, Vth, d, torch.float32))
        mine, theirs = y.clone(), y.clone()
        mean = fused.centre_(mine)
        torch.testing.assert_close(mean, dynamics.centre_(theirs))
        torch.testing.assert_close(mine, theirs)
        for train, about in ((y, None), (mine, mean)):
            actual = fused.fold(train, about, affine, Vth, d, torch.float32)
            expected = dynamics.fold(train, about, affine, Vth, d, torch.float32)
            torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
        fused.add_(mine, y, Vth, None)
        dynamics.add_(theirs, y, Vth, None)
        torch.testing.assert_close(mine, theirs)
    compiled_frames = torch._dynamo.utils.counters["frames"]["ok"]
    y, affine = draw(3, 1501, 40)
    fused.fold(y, None, affine, Vth, d, torch.float32)
    assert torch._dynamo.utils.counters["frames"]["ok"] == compiled_frames


def test_small_currents_stay_eager(monkeypatch) -> None:
    def refuse(*args, **kwargs):
        raise AssertionError("compiled for a small current")

    monkeypatch.setattr(torch, "compile", lambda function, **options: refuse)
    y, affine = draw(3, 20, 4)
    kernels.compiled().fold(y, None, affine, torch.tensor(0.5), KINDS[0], torch.float32)


def test_a_missing_compiler_is_one_line(monkeypatch) -> None:
    def fail(function, **options):
        raise RuntimeError("no g++ found\nand a long trace")

    monkeypatch.setattr(torch, "compile", fail)
    assert kernels.compiler_fault(torch.device("cpu")) == "no g++ found"
