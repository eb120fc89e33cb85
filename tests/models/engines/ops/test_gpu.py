"""The passes on a GPU: values, shapes on `meta`, and what is left to the reference."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models import NeuronSetting
from models.dynamics import Dynamics
from models.engines.ops import gpu, reference
from models.engines.ops.native_build import CompilerError
from models.engines.ops.reference import Affine

HAS_TRITON = importlib.util.find_spec("triton") is not None
VALUES = Path(__file__).with_name("gpu_values.py")
LIF = Dynamics.leaky_integrate_and_fire(NeuronSetting(timesteps=3, Vth=0.5, delta_t=0.25))


@pytest.mark.skipif(not HAS_TRITON, reason="Triton is not installed")
@pytest.mark.parametrize("interpreted", ["1", "0"], ids=("interpreted", "compiled"))
def test_values(interpreted: str) -> None:
    if interpreted == "0" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    command = [sys.executable, "-m", "pytest", "-n0", "-p", "no:cacheprovider", str(VALUES)]
    env = {**os.environ, "TRITON_INTERPRET": interpreted}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def draw(dtype: torch.dtype, device: str) -> tuple[torch.Tensor, torch.Tensor, Affine]:
    """Return two currents and a BatchNorm."""
    y, q = torch.randn(2, 3, 9, 70, dtype=dtype, device=device)
    exact = torch.promote_types(dtype, torch.float32)
    return y, q, Affine(*torch.rand(4, 70, dtype=exact, device=device))


def test_shapes_without_values() -> None:
    y, q, affine = draw(torch.bfloat16, "meta")
    Vth = torch.empty((), device="meta")
    assert gpu.spikes(y[0], affine, Vth, LIF, torch.float32).shape == y.shape
    folded = gpu.fold(y, None, affine, Vth, LIF, torch.bfloat16)
    assert folded.spikes is y and folded.mean_v.shape == y.shape[1:]
    assert {folded.inside.dtype, folded.above.dtype} == {torch.bool}
    found = gpu.statistics_(y, True)
    assert (found.mean.shape, found.time_mean.shape) == ((70,), (9, 70))
    assert all(a.shape == (9, 70) for a in gpu.means(q, affine, LIF, torch.bfloat16))
    assert gpu.covariance(y, q).shape == (70,)
    gpu.add_(y, q, Vth, None)


def test_float64_is_left_to_the_reference() -> None:
    dtype = torch.float64
    y, q, affine = draw(dtype, "cpu")
    Vth = torch.tensor(0.5, dtype=dtype)
    for name, arguments in {
        "spikes": (affine, Vth, LIF, dtype),
        "fold": (None, affine, Vth, LIF, dtype),
        "means": (affine, LIF, dtype),
        "statistics_": (True,),
        "add_": (q, Vth, None),
        "covariance": (q,),
    }.items():
        mine, theirs = y.clone(), y.clone()
        found = getattr(gpu, name)(mine, *arguments)
        torch.testing.assert_close(found, getattr(reference, name)(theirs, *arguments))
        assert torch.equal(mine, theirs)


def test_without_triton_the_reason_is_one_line(monkeypatch) -> None:
    def fail(y, centre):
        raise ImportError("No module named 'triton'\nand more")

    monkeypatch.setattr(gpu, "statistics_", fail)
    with pytest.raises(CompilerError, match="^No module named 'triton'$"):
        gpu.verify(torch.device("cpu"))
