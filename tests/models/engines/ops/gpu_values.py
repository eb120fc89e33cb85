"""The values of the passes on a GPU: on a GPU, or on a CPU in Triton's interpreter.

The interpreter must be chosen before Triton is imported, so that `test_gpu.py` runs these tests in
a process of their own.
"""

from __future__ import annotations

import os

import pytest
import torch
from torch.library import Library

from models import NeuronSetting
from models.dynamics import Dynamics, weighted_mean
from models.engines.ops import gpu, reference
from models.engines.ops.native_build import CompilerError
from models.engines.ops.reference import Affine

DEVICE = torch.device("cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda")
TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=("fp32", "bf16"))
# Channels that fill tiles and that do not, more rows than a tile has, one step.
SHAPES = pytest.mark.parametrize("shape", [(4, 37, 64), (3, 9, 70), (1, 5, 3)], ids=str)


@pytest.fixture(scope="module", autouse=True)
def operators_on_cpu():
    """Let the operators take CPU tensors, for which Triton interprets the kernels."""
    library, devices = Library("dsr", "IMPL"), gpu.DEVICES
    if DEVICE.type == "cpu":
        gpu.DEVICES = ("cpu",)
        for name, launch in gpu.LAUNCHES.items():
            library.impl(name, launch, "CPU")
    yield
    library._destroy()
    gpu.DEVICES = devices


def dynamics(timesteps: int) -> tuple[Dynamics, Dynamics]:
    setting = NeuronSetting(timesteps=timesteps, Vth=0.5, delta_t=0.25)
    return Dynamics.integrate_and_fire(setting), Dynamics.leaky_integrate_and_fire(setting)


def draw(shape: tuple[int, int, int], dtype: torch.dtype):
    """Return two currents and a BatchNorm."""
    g = torch.Generator().manual_seed(sum(shape))
    y, q = 2 * torch.randn(2, *shape, generator=g)
    scale = torch.rand(2, shape[-1], generator=g) + 0.5
    affine = Affine(scale[0] - 1, scale[1], scale[0], scale[1] - 1)
    return y.to(DEVICE, dtype), q.to(DEVICE, dtype), Affine(*(a.to(DEVICE) for a in affine))


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, device=DEVICE)


def assert_same(mine, theirs, dtype: torch.dtype) -> None:
    """In float32 to the last bit, interpreted; the interpreter rounds to bf16 unlike torch."""
    close = {"rtol": 0, "atol": 0} if DEVICE.type == "cpu" else {"rtol": 1e-5, "atol": 1e-5}
    if dtype == torch.bfloat16:
        close = {"rtol": 1e-2, "atol": 1e-2}
    torch.testing.assert_close(mine, theirs, **close)


@TYPES
@SHAPES
def test_firing(shape, dtype: torch.dtype) -> None:
    y, q, affine = draw(shape, dtype)
    Vth, time_mean = scalar(0.5), q[0].float()
    for d in dynamics(len(y)):
        for norm in (affine, None):
            spikes = reference.spikes(y, norm, Vth, d, dtype)
            assert torch.equal(gpu.spikes(y.clone(), norm, Vth, d, dtype), spikes)
            for current, mean in ((y, None), (y, time_mean), (y[0], None)):
                theirs = reference.fold(current, mean, norm, Vth, d, dtype)
                mine = gpu.fold(current.clone(), mean, norm, Vth, d, dtype)
                assert torch.equal(mine.spikes, theirs.spikes)
                assert torch.equal(mine.count, theirs.count)
                assert_same(mine, theirs, dtype)


def test_firing_into_another_type_more_often_than_a_byte_counts() -> None:
    y, _, _ = draw((300, 5, 3), torch.float32)
    d, _ = dynamics(300)
    mine, theirs = (
        module.fold(y + 9, None, None, scalar(0.01), d, torch.bfloat16)
        for module in (gpu, reference)
    )
    assert mine.count.dtype == torch.int16 and mine.count.max() > 255
    assert torch.equal(mine.spikes, theirs.spikes) and torch.equal(mine.count, theirs.count)


@TYPES
@SHAPES
@pytest.mark.parametrize("programs", [2, 1024])
def test_reductions(shape, dtype: torch.dtype, programs: int, monkeypatch) -> None:
    """Over one and over several blocks of rows per program, of values far from zero."""
    monkeypatch.setattr(gpu, "PROGRAMS", programs)
    y, q, _ = draw(shape, dtype)
    y = y + 100
    for _ in range(2):  # the counters are zero again after the first time
        mine, theirs = y.clone(), y.clone()
        found, expected = gpu.statistics_(mine, True), reference.statistics_(theirs, True)
        var, mean = torch.var_mean(y.double(), (0, 1), correction=0)
        torch.testing.assert_close(found.mean.double(), mean, rtol=1e-6, atol=0)
        torch.testing.assert_close(found.var.double(), var, rtol=1e-5, atol=1e-6)
        assert torch.equal(found.time_mean, expected.time_mean)
        assert_same(mine, theirs, dtype)
        untouched = y.clone()
        assert gpu.statistics_(untouched, False).time_mean is None
        assert torch.equal(untouched, y)
        torch.testing.assert_close(gpu.covariance(mine, q), reference.covariance(mine, q))


@TYPES
@SHAPES
def test_means_and_sums(shape, dtype: torch.dtype) -> None:
    y, q, affine = draw(shape, dtype)
    for d in dynamics(len(q)):
        assert_same(gpu.means(q, affine, d, dtype), reference.means(q, affine, d, dtype), dtype)
        mine, theirs = (f(q.float(), d) for f in (gpu.weighted_mean, weighted_mean))
        torch.testing.assert_close(mine, theirs)
    for a in (q, q[:1], (q > 0).to(torch.uint8)):
        for scale, shift in ((scalar(0.5), None), (affine.slope, affine.offset)):
            mine, theirs = y.clone(), y.clone()
            gpu.add_(mine, a, scale, shift)
            reference.add_(theirs, a, scale, shift)
            assert_same(mine, theirs, dtype)


def test_verification(monkeypatch) -> None:
    gpu.verify(DEVICE)
    monkeypatch.setattr(gpu, "fold", lambda y, *rest: reference.fold(-y, *rest))
    with pytest.raises(CompilerError, match="other spikes than torch"):
        gpu.verify(DEVICE)
