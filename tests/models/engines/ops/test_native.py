"""The C++ passes: the calls that they support, and their check. Values: test_dispatch.py."""

from __future__ import annotations

import shutil

import pytest
import torch

from models import NeuronSetting
from models.dynamics import Dynamics
from models.engines import select
from models.engines.ops import native, native_build, reference
from models.engines.ops.native_build import CompilerError
from models.engines.ops.reference import Affine

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, native_build.COMPILERS)), reason="no C++ compiler"
)


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    caches = (native.library, native.verify)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@needs_compiler
def test_a_compiler_that_miscomputes_is_refused(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "csrc"
    shutil.copytree(native.SOURCE.parent, folder)
    header = folder / "neuron.h"
    header.write_text(header.read_text().replace("before >= threshold", "before < threshold"))
    monkeypatch.setattr(native, "SOURCE", folder / "native.cpp")
    with pytest.raises(CompilerError, match="other spikes than torch"):
        native.verify()


@needs_compiler
def test_a_library_without_one_of_its_functions_is_a_note(tmp_path, monkeypatch) -> None:
    """Also where a network trains long before it calls that function."""
    folder = tmp_path / "csrc"
    shutil.copytree(native.SOURCE.parent, folder)
    source = folder / "native.cpp"
    source.write_text(source.read_text().replace("void covariance_", "void another_"))
    monkeypatch.setattr(native, "SOURCE", source)
    choice = select.choose(4, torch.device("cpu"), compile="on", event_driven="never")
    (note,) = choice.notes
    assert note.startswith("--compile on: no working compiler (")
    assert note.endswith("has no function covariance_float32); continuing without")
    assert not choice.compiled


def test_calls_that_are_not_supported_are_left_to_the_reference(monkeypatch) -> None:
    monkeypatch.setattr(native, "library", lambda: pytest.fail("called"))
    d = Dynamics.integrate_and_fire(NeuronSetting(timesteps=2, Vth=1.0))
    y, Vth = torch.randn(2, 6, 4, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    arguments = (None, Vth, d, torch.float64)
    assert torch.equal(native.spikes(y, *arguments), reference.spikes(y, *arguments))
    native.fold(y, None, *arguments)
    native.statistics_(y.clone(), True)
    native.covariance(y, y)
    native.add_(y.clone(), y, Vth, None)
    means, channel = (y[0], y[1]), y[0, 0]
    native.norm_sums(y[0], y[1])
    native.norm_grad(y[0], means, channel, channel, channel)
    native.fire_grad(y[0], y[0] > 0, y[1] > 0, 0.5)
    single = y.float()
    native.fire_grad(single[0], y[0] > 0, y[1] > 0, 0.5)  # masks that are not in bits
    native.add_(single.clone(), single[:, :, 1:2].expand(2, 6, 4), Vth.float(), None)


@needs_compiler
def test_other_default_types_change_nothing() -> None:
    d = Dynamics.leaky_integrate_and_fire(NeuronSetting(timesteps=3, Vth=0.5, delta_t=0.25))
    y, Vth = torch.randn(3, 50, 8).bfloat16(), torch.tensor(0.5)
    affine = Affine(*(torch.rand(8, dtype=torch.float64) for _ in range(4)))
    try:
        torch.set_default_dtype(torch.float64)
        native.verify()
        actual = native.fold(y.clone(), None, affine, Vth, d, torch.bfloat16)
        statistics = native.statistics_(y.clone(), True)
    finally:
        torch.set_default_dtype(torch.float32)
    single = Affine(*(a.float() for a in affine))
    expected = reference.fold(y, None, single, Vth, d, torch.bfloat16)
    assert torch.equal(actual.spikes, expected.spikes)
    torch.testing.assert_close(actual.mean_v, expected.mean_v, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(
        statistics.mean, reference.channel_statistics(y.flatten(0, 1))[0], rtol=1e-4, atol=1e-4
    )


@needs_compiler
def test_statistics_keep_all_digits() -> None:
    y = 7.4 + 0.3 * torch.randn(1, 3_000_000, 2, generator=torch.Generator().manual_seed(0))
    exact_var, exact_mean = torch.var_mean(y.double(), dim=(0, 1), correction=0)
    found = native.statistics_(y, centre=False)
    torch.testing.assert_close(found.mean.double(), exact_mean, rtol=1e-7, atol=0)
    torch.testing.assert_close(found.var.double(), exact_var, rtol=1e-7, atol=0)
