"""The fused passes over whole currents against the reference implementation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models import NeuronSetting
from models.dynamics import Dynamics
from models.engines.folded import FoldedEngine
from models.engines.ops import dispatch, gpu, reference
from models.engines.ops.dispatch import CompilerError, Kernels, by_torch
from models.engines.ops.reference import Affine
from tests.models.networks import images, network

CPU = torch.device("cpu")


def fault(attempt) -> str | None:
    try:
        attempt(CPU)
    except CompilerError as error:
        return str(error)
    return None


NATIVE_FAULT, TORCH_FAULT = fault(dispatch.compiled), fault(dispatch._try_compiler)
FUSED = [
    pytest.param(
        dispatch.compiled,
        marks=pytest.mark.skipif(NATIVE_FAULT is not None, reason=f"no compiler: {NATIVE_FAULT}"),
        id="native",
    ),
    pytest.param(
        lambda device: by_torch(),
        marks=pytest.mark.skipif(TORCH_FAULT is not None, reason=f"no compiler: {TORCH_FAULT}"),
        id="torch",
    ),
]
SETTING = NeuronSetting(timesteps=3, Vth=0.5, delta_t=0.25)
KINDS = (Dynamics.integrate_and_fire(SETTING), Dynamics.leaky_integrate_and_fire(SETTING))
Vth = torch.tensor(0.5)


def draw(timesteps: int, rows: int, channels: int):
    generator = torch.Generator().manual_seed(rows)
    y = torch.randn(timesteps, rows, channels, generator=generator)
    scale = torch.rand(2, channels, generator=generator) + 0.5
    return y, Affine(scale[0] - 1, scale[1], scale[0], scale[1] - 1)


@pytest.fixture(params=FUSED)
def fused(request) -> Kernels:
    torch._dynamo.reset()
    return request.param(CPU)


BOTH_NEURONS = pytest.mark.parametrize("d", KINDS, ids=("if", "lif"))
BOTH_TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=("fp32", "bf16"))
SIZES = ((3000, 48), (1701, 50))  # neither fills whole blocks or vectors
CLOSE = {torch.float32: {"rtol": 1e-5, "atol": 1e-5}, torch.bfloat16: {"rtol": 1e-2, "atol": 1e-2}}


@BOTH_NEURONS
@BOTH_TYPES
def test_firing(fused: Kernels, d: Dynamics, dtype: torch.dtype) -> None:
    for rows, channels in SIZES:
        y, affine = draw(3, rows, channels)
        y = y.to(dtype)
        actual = fused.spikes(y.clone(), affine, Vth, d, dtype)
        assert torch.equal(actual, reference.spikes(y, affine, Vth, d, dtype))
        centred = y.clone()
        for current, mean in ((y, None), (centred, reference.centre_(centred))):
            actual = fused.fold(current.clone(), mean, affine, Vth, d, dtype)
            expected = reference.fold(current, mean, affine, Vth, d, dtype)
            assert torch.equal(actual.spikes, expected.spikes)
            torch.testing.assert_close(actual, expected, **CLOSE[dtype])


@BOTH_TYPES
def test_statistics_and_covariances(fused: Kernels, dtype: torch.dtype) -> None:
    for rows, channels in SIZES:
        y, affine = draw(3, rows, channels)
        actual_y, expected_y = y.to(dtype, copy=True), y.to(dtype, copy=True)
        actual = fused.statistics_(actual_y, True)
        expected = reference.statistics_(expected_y, True)
        torch.testing.assert_close(actual, expected, **CLOSE[dtype])
        torch.testing.assert_close(actual_y, expected_y, **CLOSE[dtype])
        q = y.to(dtype)
        covariances = fused.covariance(expected_y, q), reference.covariance(expected_y, q)
        torch.testing.assert_close(*covariances, **CLOSE[dtype])
        for d in KINDS:
            means = fused.means(q, affine, d, dtype), reference.means(q, affine, d, dtype)
            torch.testing.assert_close(*means, **CLOSE[dtype])


@BOTH_TYPES
def test_gradients(fused: Kernels, dtype: torch.dtype) -> None:
    for rows, channels in (*SIZES, (6, 3000)):
        y, affine = draw(4, rows, channels)
        g, inside, above = y[0], y[1] > 0, y[2] > 0.5
        means, slopes = (y[1].to(dtype), y[2].to(dtype)), affine[:3]
        expected = [a.float() for a in reference.fire_grad(g.double(), inside, above, 0.3)]
        if rows * channels % 8 == 0:
            inside, above = in_bits(inside), in_bits(above)
        actual = fused.fire_grad(g, inside, above, 0.3)
        torch.testing.assert_close(actual, tuple(expected), rtol=1e-5, atol=1e-3)
        expected = [a.float() for a in reference.norm_sums(g.double(), means[0].double())]
        actual = fused.norm_sums(g, means[0])
        torch.testing.assert_close(actual, tuple(expected), rtol=1e-5, atol=1e-3)
        for pair in (means, (means[0], None)):
            actual, expected = (k.norm_grad(g, pair, *slopes) for k in (fused, reference))
            torch.testing.assert_close(actual, expected)
            assert (actual[0] is actual[1]) == (pair[1] is None)


def in_bits(mask: torch.Tensor) -> torch.Tensor:
    """Return a mask eight to a byte, the first in the lowest bit."""
    return (mask.view(-1, 8) * 2 ** torch.arange(8)).sum(1).to(torch.uint8)


@BOTH_TYPES
def test_sums_are_rounded_once(fused: Kernels, dtype: torch.dtype) -> None:
    for rows, channels in SIZES:
        y, affine = draw(3, rows, channels)
        y = y.to(dtype)
        for scale, shift in ((Vth, None), (affine.slope, affine.offset), (affine.slope, None)):
            actual, expected = y.clone(), y.clone()
            fused.add_(actual, y, scale, shift)
            reference.add_(expected, y, scale, shift)
            torch.testing.assert_close(actual, expected, **CLOSE[dtype])
            term = y.double() * scale.double() + (0 if shift is None else shift.double())
            once = (y.double() + term).to(dtype)
            assert (expected == once).double().mean() > 0.99 or dtype == torch.float32


@BOTH_TYPES
def test_packed_spikes(fused: Kernels, dtype: torch.dtype) -> None:
    for rows, channels in SIZES:
        y, _ = draw(3, rows, channels)
        y, spikes = y.to(dtype), (y > 0.5).to(dtype)
        packed = fused.recode(spikes, torch.uint8)
        assert packed.dtype == torch.uint8 and torch.equal(packed, spikes.to(torch.uint8))
        assert torch.equal(fused.recode(packed, dtype), spikes)
        actual, expected = y.clone(), y.clone()
        fused.add_(actual, packed, Vth, None)
        reference.add_(expected, packed, Vth, None)
        torch.testing.assert_close(actual, expected, **CLOSE[dtype])


@pytest.mark.skipif(NATIVE_FAULT is not None, reason=f"no compiler: {NATIVE_FAULT}")
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=("fp32", "bf16"))
@pytest.mark.parametrize("name", ["preresnet.resnet18_lif", "vgg.vgg11_if"])
def test_evaluation_is_the_same_compiled_or_not(name: str, dtype: torch.dtype | None) -> None:
    model = network(name, 4).float().eval()
    x = images(name, 4, 3).float()
    outputs = []
    for passes in (Kernels(), dispatch.compiled(CPU)):
        engine = FoldedEngine(4, passes, dtype)
        model.choice = replace(model.choice, evaluation=engine)
        with torch.inference_mode():
            outputs.append(model(x))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("timesteps", [1, 3, 300])
def test_special_shapes(fused: Kernels, timesteps: int) -> None:
    """One step, a static current, no BatchNorm, and more spikes than a byte can count."""
    setting = NeuronSetting(timesteps=timesteps, Vth=0.1, delta_t=0.25)
    d = Dynamics.leaky_integrate_and_fire(setting)
    whole, affine = draw(timesteps, 70, 5)
    for y in (whole, whole[0]):
        for bn in (affine, None):
            for into in (torch.float32, torch.bfloat16):
                expected = reference.fold(y, None, bn, Vth / 5, d, into)
                actual = fused.fold(y.clone(), None, bn, Vth / 5, d, into)
                torch.testing.assert_close(actual.spikes, expected.spikes, rtol=0, atol=0)
                torch.testing.assert_close(actual.count, expected.count, rtol=0, atol=0)
                torch.testing.assert_close(actual.mean_u, expected.mean_u, rtol=1e-2, atol=1e-4)
                for same in ("inside", "above"):
                    torch.testing.assert_close(getattr(actual, same), getattr(expected, same))
                if actual.mean_v is not None:
                    torch.testing.assert_close(actual.mean_v, expected.mean_v, rtol=1e-2, atol=1e-4)


@pytest.mark.skipif(TORCH_FAULT is not None, reason=f"no working compiler: {TORCH_FAULT}")
def test_torch_compiles_once_for_all_sizes() -> None:
    torch._dynamo.reset()
    fused = by_torch()
    for rows, channels in ((3000, 32), (1700, 48)):
        y, affine = draw(3, rows, channels)
        fused.fold(y, None, affine, Vth, KINDS[0], torch.float32)
    compiled_frames = torch._dynamo.utils.counters["frames"]["ok"]
    y, affine = draw(3, 1501, 40)
    fused.fold(y, None, affine, Vth, KINDS[0], torch.float32)
    assert torch._dynamo.utils.counters["frames"]["ok"] == compiled_frames


def test_torch_leaves_small_currents_eager(monkeypatch) -> None:
    def refuse(*args, **kwargs):
        raise AssertionError("compiled for a small current")

    monkeypatch.setattr(torch, "compile", lambda function, **options: refuse)
    y, affine = draw(3, 20, 4)
    by_torch().fold(y, None, affine, Vth, KINDS[0], torch.float32)


def test_a_compiler_that_fails_is_one_line(monkeypatch) -> None:
    def fail(function, **options):
        raise RuntimeError("no ptxas found\nand a long trace")

    monkeypatch.setattr(torch, "compile", fail)
    monkeypatch.setattr(torch, "ones", lambda *size, device: None)
    with pytest.raises(CompilerError, match="^no ptxas found$"):
        dispatch.compiled(torch.device("mps"))


@pytest.mark.parametrize("works", [True, False])
def test_a_gpu_without_triton_is_left_to_torch_compile(works: bool, monkeypatch) -> None:
    def verify(device):
        if not works:
            raise CompilerError("No module named 'triton'")

    monkeypatch.setattr(gpu, "verify", verify)
    monkeypatch.setattr(dispatch, "_try_compiler", lambda device: None)
    kernels = dispatch.compiled(torch.device("cuda"))
    assert (kernels.fold is gpu.fold) == works
    assert dispatch.compiled(torch.device("meta")).fold is gpu.fold
