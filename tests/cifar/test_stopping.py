"""Runs that are killed, stopped or told to save within an epoch, and go on from there."""

import os
import signal

import pytest
import torch

from utils.datasets.image_tensors import TestImages, TrainImages
from utils.runs import checkpoint
from utils.runs.checkpoint_keys import CheckpointContent
from utils.runs.lock import RunLock
from utils.runs.paths import RunFiles

FLAGS = ("--epochs", "3", "--manualSeed", "8", "--dropout", "0.2", "--lr", "0.05")
STEPS = 3  # an epoch has
STEM = "tiny.lif"


class Killed(BaseException):
    """Stands for the end of a process: no handler may see it."""


@pytest.fixture
def at_batch(monkeypatch):
    """Return a function that lets something happen once, before the batch `index` is loaded."""

    def arm(index, happen, loader=TrainImages):
        original, loaded = loader.load, []

        def load(self, start, stop):
            loaded.append(start)
            if len(loaded) == index + 1:
                happen()
            return original(self, start, stop)

        monkeypatch.setattr(loader, "load", load)

    return arm


@pytest.fixture
def undisturbed(call):
    """The log and the last checkpoint of a run that nothing happens to."""
    folder = call(*FLAGS, "--name", "whole")
    return _end(folder, f"{STEM}whole")


def _end(folder, stem=STEM):
    return (folder / f"{stem}.txt").read_text(), checkpoint.load(folder / f"{stem}.pth")


def _same(one, two):
    """Whether two contents of checkpoints are equal bit for bit, their arguments apart."""
    if isinstance(one, torch.Tensor):
        return isinstance(two, torch.Tensor) and torch.equal(one, two)
    if isinstance(one, dict):
        keys = one.keys() - {"args"}
        return keys == two.keys() - {"args"} and all(_same(one[k], two[k]) for k in keys)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(_same, one, two))
    return one == two


def _kill():
    raise Killed


def _send(number):
    return lambda: os.kill(os.getpid(), number)


def _stop(call, *flags):
    """Run until a signal stops the run; return its exit status."""
    with pytest.raises(SystemExit) as ended:
        call(*FLAGS, *flags)
    return ended.value.code


def _resumes_to(call, undisturbed):
    log, content = _end(call(*FLAGS, "--resume", "auto"))
    assert log == undisturbed[0]
    assert _same(content, undisturbed[1])


@pytest.mark.parametrize("batch", [1, 2, 4, 8])
@pytest.mark.parametrize("every", [1, 2])
def test_a_run_killed_within_an_epoch_ends_as_if_it_had_not_been(
    call, undisturbed, at_batch, batch, every
):
    at_batch(batch, _kill)
    with pytest.raises(Killed):
        call(*FLAGS, "--save_every", str(every))
    _resumes_to(call, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("batch", [0, 5])
def test_a_signal_finishes_the_step_saves_and_tells(
    call, undisturbed, at_batch, capsys, number, batch, tmp_path
):
    at_batch(batch, _send(number))
    assert _stop(call) == 128 + number
    (line,) = capsys.readouterr().err.splitlines()
    epoch, step = divmod(batch, STEPS)
    assert line.startswith(f"{number.name}: saved after epoch {epoch + 1}, step {step + 1} of 3")
    content = checkpoint.load(next((tmp_path / "digits").glob(f"{STEM}_mid.pth")))
    assert content.keys() <= CheckpointContent.__annotations__.keys()
    assert (content["epoch"], content["step"]) == (epoch, step + 1)
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    _resumes_to(call, undisturbed)


def test_a_signal_during_a_test_keeps_the_epoch_trained(call, undisturbed, at_batch, capsys):
    at_batch(1, _send(signal.SIGTERM), TestImages)
    assert _stop(call) == 143
    assert "epoch 1, step 3 of 3" in capsys.readouterr().err
    _resumes_to(call, undisturbed)


def test_stopped_at_every_step_in_turn_a_run_ends_all_the_same(call, undisturbed, at_batch):
    stops = 0
    while True:
        at_batch(0, _send(signal.SIGTERM))
        try:
            folder = call(*FLAGS, "--resume", "auto")
        except SystemExit as ended:
            assert ended.code == 143
            stops += 1
        else:
            break
    assert stops == 3 * STEPS
    log, content = _end(folder)
    assert log == undisturbed[0] and _same(content, undisturbed[1])


def test_sigusr1_saves_and_goes_on(call, undisturbed, at_batch, capsys, tmp_path):
    at_batch(4, _send(signal.SIGUSR1))
    at_batch(5, _kill)
    with pytest.raises(Killed):
        call(*FLAGS)
    assert "SIGUSR1: saved after epoch 2, step 2 of 3" in capsys.readouterr().out
    assert checkpoint.load(tmp_path / "digits" / f"{STEM}_mid.pth")["step"] == 2
    _resumes_to(call, undisturbed)


def test_a_whole_run_leaves_no_checkpoint_within_an_epoch_nor_a_lock(call):
    folder = call(*FLAGS, "--save_every", "1")
    names = {path.name.removeprefix(STEM) for path in folder.iterdir()}
    assert names == {".txt", ".pth", "_best.pth", ".pdf", ".json", "_card.md"}


def test_a_checkpoint_within_an_epoch_needs_the_batch_it_was_trained_with(call, at_batch, capsys):
    at_batch(1, _send(signal.SIGTERM))
    _stop(call)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        call(*FLAGS, "--resume", "auto", "--train-batch", "300")
    assert ended.value.code == 2
    assert "after 2 of 3 steps" in capsys.readouterr().err


def test_another_run_of_the_name_is_refused_and_says_who_has_it(call, tmp_path, capsys):
    folder = tmp_path / "digits"
    folder.mkdir()
    with RunLock(RunFiles(folder, STEM)):
        with pytest.raises(SystemExit) as ended:
            call(*FLAGS)
        assert ended.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"process {os.getpid()} on " in line and "since " in line and "--name" in line
        assert [path.name for path in folder.iterdir()] == [f".{STEM}.lock"]
        call("-e")  # an evaluation writes no file of the training
    call(*FLAGS)


def test_a_checkpoint_tells_the_flags_and_versions_it_comes_from(call):
    content = _end(call("--epochs", "1", "--lr", "0.2"))[1]
    assert content["args"]["lr"] == 0.2 and content["args"]["dataset"] == "digits"
    assert torch.__version__.startswith(content["versions"]["torch"])
