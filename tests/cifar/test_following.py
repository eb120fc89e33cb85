"""`--log_json` and `--tensorboard`: what can be followed while a run trains."""

import json

import pytest
import torch

from tests.utils.monitoring.scalars import read_curves
from utils.datasets.image_tensors import TrainImages
from utils.runs.json_log import JsonLog
from utils.runs.log import Log

FLAGS = ("--epochs", "3", "--manualSeed", "8", "--dropout", "0.2", "--lr", "0.02")
CURVES = {
    *("learning_rate", "loss/train", "loss/test", "accuracy/train", "accuracy/test"),
    *("accuracy_top5/train", "accuracy_top5/test"),
    *("firing_rate/relu1", "firing_rate/relu2", "threshold/relu1", "threshold/relu2"),
}
MEASURED = {"speed/training_images_per_second", "memory/peak_MiB"}  # differ from run to run


class Killed(BaseException):
    """Stands for the end of a process: no handler may see it."""


@pytest.fixture
def followed(call, tmp_path):
    """Run the training program with both flags; return the folder it writes to."""
    pytest.importorskip("tensorboard", reason="requirements-extras.txt is not installed")
    flags = (*FLAGS, "--log_json", "--tensorboard", str(tmp_path / "tb"))
    return lambda *more: call(*flags, *more)


def _curves(folder, stem="tiny.lif"):
    return read_curves(folder.parent / "tb" / "digits" / stem)


def test_following_a_run_changes_no_digit_and_survives_a_kill(call, followed, monkeypatch):
    folder = call(*FLAGS, "--name", "plain")
    followed("--name", "whole")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        set_epoch = TrainImages.set_epoch

        def killed(self, epoch):
            if epoch == 1:
                patch.setattr(TrainImages, "begin_at", None)
                raise Killed
            set_epoch(self, epoch)

        patch.setattr(TrainImages, "set_epoch", killed)
        followed()
    # The kill came after the curves and the logs of an epoch whose checkpoint is missing.
    for log in (Log(folder / "tiny.lif.txt"), JsonLog(folder / "tiny.lif.jsonl")):
        with log.path.open("a") as file:
            file.write(log.path.read_text().splitlines()[-1] + "\n")
    followed("--resume", "auto")
    stems = ("tiny.lifplain", "tiny.lifwhole", "tiny.lif")
    logs = [(folder / f"{stem}.txt").read_bytes() for stem in stems]
    assert logs[0] == logs[1] == logs[2]
    weights = [torch.load(folder / f"{stem}.pth", weights_only=True) for stem in stems]
    for key, value in weights[0]["state_dict"].items():
        assert all(torch.equal(value, other["state_dict"][key]) for other in weights[1:]), key
    lines = [(folder / f"{stem}.jsonl").read_bytes() for stem in stems[1:]]
    assert lines[0] == lines[1]
    assert JsonLog(folder / "tiny.lif.jsonl").read() == weights[0]["rows"]
    whole, resumed = _curves(folder, "tiny.lifwhole"), _curves(folder)
    assert whole.keys() == resumed.keys() == CURVES | MEASURED
    assert {name: whole[name] for name in CURVES} == {name: resumed[name] for name in CURVES}
    assert [step for step, _ in resumed["memory/peak_MiB"]] == [1, 2, 3]
    assert all(value > 0 for name in MEASURED for _, value in resumed[name])


def test_curves_hold_the_log_the_thresholds_and_the_firing_rates(followed, call):
    folder = followed()
    curves = {name: values[-1] for name, values in _curves(folder).items()}
    entry = json.loads((folder / "tiny.lif.jsonl").read_text().splitlines()[-1])
    assert curves["accuracy/test"] == (3, pytest.approx(entry["test_accuracy"]))
    assert curves["loss/train"] == (3, pytest.approx(entry["train_loss"]))
    assert curves["learning_rate"] == (3, pytest.approx(entry["learning_rate"]))
    state = torch.load(folder / "tiny.lif.pth", weights_only=True)["state_dict"]
    assert curves["threshold/relu1"] == (3, pytest.approx(state["relu1.Vth"].item()))
    call("--resume", "tiny.lif.pth", "--evaluate", "--rate_stat", "1")
    rates = torch.load(folder / "tiny.lif_firing_rate.dict", weights_only=True)
    assert {n: curves[f"firing_rate/{n}"] for n in rates} == {
        n: (3, pytest.approx(rate)) for n, rate in rates.items()
    }


def test_averaged_weights_and_validation_data_have_their_own_curves(followed):
    curves = _curves(followed("--epochs", "1", "--ema", "0.9", "--val_split", "0.2"))
    assert {"accuracy/validation", "accuracy/validation_average", "loss/validation_average"} <= (
        curves.keys()
    )
    assert not any(name.endswith("/test") for name in curves)


def test_a_run_resumed_without_the_flags_continues_its_json_log(call):
    folder = call("--epochs", "1", "--log_json")
    call("--epochs", "2", "--resume", "auto")
    assert len(JsonLog(folder / "tiny.lif.jsonl").read()) == 2


def test_curves_that_begin_late_hold_the_epochs_of_the_log(call, followed):
    folder = call(*FLAGS, "--epochs", "1")
    assert not list(folder.glob("*.jsonl"))
    followed("--resume", "auto")
    curves = _curves(folder)
    assert [step for step, _ in curves["loss/test"]] == [1, 2, 3]
    assert [step for step, _ in curves["threshold/relu1"]] == [2, 3]
    assert len(JsonLog(folder / "tiny.lif.jsonl").read()) == 3


def test_a_new_run_keeps_what_an_earlier_one_was_followed_with(followed):
    folder = followed("--epochs", "1")
    followed("--epochs", "1")
    assert (folder / "tiny.lif.old-1.jsonl").exists()
    assert _curves(folder, "tiny.lif.old-1").keys() == CURVES | MEASURED


def test_a_folder_that_cannot_be_written_ends_the_run_before_it_begins(followed, tmp_path, capsys):
    (tmp_path / "tb").write_text("")
    with pytest.raises(SystemExit) as ended:
        followed()
    assert ended.value.code == 2 and "--tensorboard" in capsys.readouterr().err
    assert not (tmp_path / "digits").exists()
