"""The scripts as a user starts them."""

import importlib.util
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests import ranks
from tests.ranks import ROOT
from tests.utils.monitoring.scalars import read_curves
from utils.runs.json_log import JsonLog

TINY = "tests/cifar/tiny_net.py"
SINGLE, MULTIPLE = "cifar/main_single_gpu.py", "cifar/main_multiple_gpus.py"
LAUNCH = ("-m", "torch.distributed.launch")  # passes --local-rank
TORCHRUN = ("-m", "torch.distributed.run")


def _start(*arguments):
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | ranks.here(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _finish(*processes):
    """Return what the first of `processes` printed; all must have succeeded."""
    return ranks.finish(processes)[0][0]


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
    _finish(_start(TINY, SINGLE, *flags, "--name", "A"))
    record = str(tmp_path / "digits" / "tiny.lifA.json")
    _finish(_start(TINY, MULTIPLE, "--config", record, "--name", "B"))
    logs = [(tmp_path / "digits" / f"tiny.lif{name}.txt").read_text() for name in "AB"]
    assert logs[0] == logs[1]


def test_the_launchers_train_resume_and_test_together(tmp_path, tiny_flags):
    flags = [TINY, MULTIPLE, *tiny_flags, "--manualSeed", "4", "--lr", "0.05", "--log_json"]
    if importlib.util.find_spec("tensorboard"):
        flags += ["--tensorboard", str(tmp_path / "tb")]
    two = ("--nproc_per_node", "2", "--master_port", ranks.free_port())
    _finish(_start(*LAUNCH, *two, *flags, "--epochs", "2"))
    more = ("--epochs", "3", "--resume", "tiny.lif.pth", "--Vth_grad_sum", "--sync_bn")
    again = (TINY, MULTIPLE, "--config", str(tmp_path / "digits" / "tiny.lif.json"))
    _finish(
        _start(*TORCHRUN, *two, *again, *more, "--grad_compression", "bf16", "--accumulate", "3")
    )
    test = (*flags, "-e", "--resume", "tiny.lif.pth", "--rate_stat", "1")
    nodes = ("--nnodes", "2", "--master_addr", "127.0.0.1", "--master_port", ranks.free_port())
    printed = _finish(*(_start(*TORCHRUN, *nodes, "--node_rank", k, *test) for k in "01"))
    folder = tmp_path / "digits"
    rows = (folder / "tiny.lif.txt").read_text().splitlines()
    assert len(rows) == 1 + 3
    last = torch.load(folder / "tiny.lif.pth", weights_only=True)
    assert last["epoch"] == 3
    assert len(last["random_states"]) == 2
    tested = (folder / "tiny.lif_evaluation.tsv").read_text().splitlines()[-1].split("\t")
    assert tested[4] == rows[-1].split()[4] == f"{last['acc']:.6f}"
    assert "2 processes" in printed
    assert "of 359 samples" in printed
    rates = torch.load(folder / "tiny.lif_firing_rate.dict", weights_only=True)
    assert all(0 < rate < 1 for rate in rates.values())
    assert JsonLog(folder / "tiny.lif.jsonl").read() == last["rows"]
    if importlib.util.find_spec("tensorboard"):
        curves = read_curves(tmp_path / "tb" / "digits" / "tiny.lif")
        assert [step for step, _ in curves["loss/train"]] == [1, 2, 3]
        for layer, rate in rates.items():  # of the test samples of both processes
            assert curves[f"firing_rate/{layer}"][-1] == (3, pytest.approx(rate))


def test_a_signal_to_one_of_two_processes_stops_both_where_they_can_go_on(tmp_path, tiny_flags):
    flags = [TINY, MULTIPLE, *tiny_flags, "--manualSeed", "4", "--lr", "0.05", "--epochs", "6"]
    flags += ["--train-batch", "64", "--dropout", "0.2", "--save_every", "7"]
    ranks.run(2, *flags, "--name", "whole")
    folder, both = tmp_path / "digits", ranks.start(2, *flags)
    while not (folder / "tiny.lif_mid.pth").exists() and both[0].poll() is None:
        time.sleep(0.005)
    both[1].send_signal(signal.SIGTERM)
    told = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [143, 143], told
    assert told[0].startswith("SIGTERM: saved after epoch ") and told[1] == ""
    printed = ranks.run(2, *flags, "--resume", "auto")[0][0]
    assert "--resume auto: tiny.lif" in printed
    ends = [torch.load(folder / f"tiny.lif{n}.pth", weights_only=True) for n in ("", "whole")]
    for key, value in ends[0]["state_dict"].items():
        assert torch.equal(value, ends[1]["state_dict"][key]), key
    assert ends[0]["rows"] == ends[1]["rows"]


def test_a_second_run_of_a_name_is_refused_while_the_first_trains(tmp_path, tiny_flags):
    flags = [TINY, SINGLE, *tiny_flags, "--epochs", "100000", "--train-batch", "64"]
    first = _start(*flags)
    while not (tmp_path / "digits" / "tiny.lif_best.pth").exists() and first.poll() is None:
        time.sleep(0.01)
    second = _start(*flags)
    _, err = second.communicate(timeout=60)
    first.send_signal(signal.SIGINT)
    told = first.communicate(timeout=60)[1]
    assert second.returncode == 2 and f"process {first.pid} on " in err
    assert first.returncode == 130 and told.startswith("SIGINT: saved after epoch ")
