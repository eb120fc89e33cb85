"""The scripts as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
TINY = "tests/cifar/tiny_net.py"
SINGLE, MULTIPLE = "cifar/main_single_gpu.py", "cifar/main_multiple_gpus.py"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


def _python(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**environment, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("script", [SINGLE, MULTIPLE])
def test_a_mistake_ends_a_script_with_one_line_and_status_2(tmp_path, script):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, ROOT / script, "--timesteps", "0", "-c", tmp_path],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 2
    assert result.stderr.splitlines() == ["error: --timesteps must be at least 1, got 0"]
    assert list(tmp_path.iterdir()) == []


def test_the_script_for_several_processes_runs_alone_like_the_other(tmp_path, tiny_flags):
    flags = [*tiny_flags, "--epochs", "1", "--lr", "0.05", "--manualSeed", "4"]
    for script, name in ((SINGLE, "A"), (MULTIPLE, "B")):
        result = _python(TINY, script, *flags, "--name", name)
        assert result.returncode == 0, result.stderr
    logs = [(tmp_path / "digits" / f"tiny.lif{name}.txt").read_text() for name in "AB"]
    assert logs[0] == logs[1]


def test_two_processes_train_test_and_resume_together(tmp_path, tiny_flags):
    flags = [MULTIPLE, *tiny_flags, "--manualSeed", "4", "--dropout", "0.1", "--Vth_grad_sum"]
    for extra in (
        ["--epochs", "2"],
        ["--epochs", "3", "--resume", "tiny.lif.pth"],
        ["-e", "--resume", "tiny.lif.pth", "--rate_stat", "1"],
    ):
        result = _python(*TORCHRUN, TINY, *flags, *extra)
        assert result.returncode == 0, result.stderr
    folder = tmp_path / "digits"
    rows = (folder / "tiny.lif.txt").read_text().splitlines()
    assert len(rows) == 1 + 3 + 1
    last = torch.load(folder / "tiny.lif.pth", weights_only=True)
    assert last["epoch"] == 3
    assert len(last["random_states"]) == 2
    assert rows[-1].split()[4] == rows[-2].split()[4] == f"{last['acc']:.6f}"
    assert "2 processes" in result.stdout
    assert result.stdout.count("of 359 samples") == 1
