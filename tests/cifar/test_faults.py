"""Faults during a training run: a full disk, numbers that overflow, memory that runs out."""

import math
import resource
import shutil

import pytest
import torch

from utils.datasets.image_tensors import TrainImages
from utils.runs import checkpoint, log
from utils.system.errors import UserError

FLAGS = ("--epochs", "3", "--manualSeed", "8")
STEM = "tiny.lif"


def _ends(call, capsys, *flags):
    """Return the line with which a run ends that a fault stops."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        call(*FLAGS, *flags)
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_a_full_disk_ends_the_run_and_leaves_what_it_needs_to_go_on(call, before_epoch, capsys):
    whole = call(*FLAGS, "--name", "whole")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before_epoch(2, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1])))
    try:
        line = _ends(call, capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large" in line and "--checkpoint" in line
    assert not list(whole.glob(".*.tmp"))
    last = checkpoint.load(whole / f"{STEM}.pth")
    assert last["epoch"] == 2
    before_epoch(2, lambda: None)


def test_a_folder_that_is_lost_ends_the_run(call, before_epoch, capsys, tmp_path):
    before_epoch(1, lambda: shutil.rmtree(tmp_path / "digits"))
    line = _ends(call, capsys)
    assert "cannot write" in line and "No such file or directory" in line


def test_a_log_and_curves_that_cannot_be_written_do_not_end_the_run(call, monkeypatch, capsys):
    expected = (call(*FLAGS, "--name", "whole") / f"{STEM}whole.txt").read_text()
    original, refused = log.Log.append, []

    def append(self, row):
        if len(refused) < 2:
            refused.append(row)
            raise UserError("cannot write the log (a fault)")
        original(self, row)

    def save_curves(*_):
        raise OSError("a fault")

    monkeypatch.setattr(log.Log, "append", append)
    monkeypatch.setattr("utils.training.trainer.save_curves", save_curves)
    folder = call(*FLAGS)
    warnings = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in warnings] == ["warning"] * len(warnings)
    assert "the log" in warnings[0] and "the curves" in warnings[-1]
    assert checkpoint.load(folder / f"{STEM}.pth")["epoch"] == 3
    assert (folder / f"{STEM}.txt").read_text() == expected


def test_a_damaged_log_does_not_keep_a_run_from_going_on(call, capsys):
    expected = (call(*FLAGS, "--name", "whole") / f"{STEM}whole.txt").read_text()
    folder = call(*FLAGS)
    shutil.copy(folder / f"{STEM}_best.pth", folder / f"{STEM}.pth")
    (folder / f"{STEM}.txt").write_bytes(bytes(300))
    epoch = checkpoint.load(folder / f"{STEM}.pth")["epoch"]
    call("--epochs", str(epoch + 1), "--resume", "auto")
    assert f"{STEM}.txt.damaged" in capsys.readouterr().out
    rows = (folder / f"{STEM}.txt").read_text().splitlines()
    assert rows[: epoch + 1] == expected.splitlines()[: epoch + 1] and len(rows) == epoch + 2


def _spoil(monkeypatch, where):
    """Let the images of one batch, by its number in the run, hold a value that is not finite."""
    original, loaded = TrainImages.load, []

    def load(self, start, stop):
        images, labels = original(self, start, stop)
        loaded.append(start)
        if len(loaded) == where + 1:
            images[0, 0, 0, 0] = math.inf
        return images, labels

    monkeypatch.setattr(TrainImages, "load", load)


def test_a_step_that_is_not_finite_is_named_and_ends_the_run(call, capsys, monkeypatch):
    _spoil(monkeypatch, 4)
    line = _ends(call, capsys)
    assert "epoch 2, step 2 of 3" in line and "--on_nan skip" in line


def test_it_is_skipped_and_counted_where_asked_for(call, capsys, monkeypatch):
    _spoil(monkeypatch, 4)
    folder = call(*FLAGS, "--on_nan", "skip")
    assert "warning: skipping epoch 2, step 2 of 3" in capsys.readouterr().out
    content = checkpoint.load(folder / f"{STEM}.pth")
    assert content["skipped"] == 1 and content["iteration"] == 9
    assert all(value.isfinite().all() for value in content["state_dict"].values())


def test_a_weight_that_overflows_is_named_by_its_layer(call, capsys, monkeypatch):
    """The neurons after it are silent, so that the loss stays finite."""
    original = torch.optim.SGD.step

    def step(self):
        original(self)
        if step.taken == 3:
            (first, *_) = self.param_groups[0]["params"]
            first.data[0, 0, 0, 0] = math.nan
        step.taken += 1

    step.taken = 0
    monkeypatch.setattr(torch.optim.SGD, "step", step)
    line = _ends(call, capsys)
    assert "epoch 2, step 2 of 3: the output of layer conv1 " in line


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), ["out of memory", "--train-batch 512"]),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            ["out of memory on the cpu", "--engine folded", "--precision bf16"],
        ),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            ["--workers 4", "worker (pid 7) is killed by signal: Killed"],
        ),
    ],
)
def test_what_ends_a_run_from_outside_is_one_line(call, before_epoch, capsys, fault, said):
    def happen():
        raise fault

    before_epoch(1, happen)
    line = _ends(call, capsys)
    for part in said:
        assert part in line


def test_other_faults_keep_their_traceback(call, before_epoch):
    def happen():
        raise RuntimeError("a fault of the program")

    before_epoch(1, happen)
    with pytest.raises(RuntimeError, match="of the program"):
        call(*FLAGS)
