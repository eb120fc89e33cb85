"""Options of training that are off by default, through kills, stops and several processes."""

import json

import pytest
import torch

from tests import ranks
from utils.datasets.image_tensors import TrainImages
from utils.runs import checkpoint
from utils.runs.log import Log


class Killed(BaseException):
    """Stands for the end of a process: no handler may see it."""


@pytest.fixture
def killed_at(monkeypatch):
    """Return a function that ends the next training before it loads the batch `index`, or never."""
    original = TrainImages.load

    def arm(index):
        loaded = []

        def load(self, start, stop):
            loaded.append(start)
            if len(loaded) - 1 == index:
                raise Killed
            return original(self, start, stop)

        monkeypatch.setattr(TrainImages, "load", load)

    return arm


def test_validation_data_choose_the_checkpoint_and_the_test_is_reported_once(
    call, killed_at, capsys
):
    flags = ("--epochs", "3", "--manualSeed", "8", "--val_split", "0.2")
    folder = call(*flags, "--name", "whole")
    printed = capsys.readouterr().out
    assert "1,150 training, 288 validation (held out) and 359 test images" in " ".join(
        printed.split()
    )
    best = max(row[4] for row in Log(folder / "tiny.lifwhole.txt").epochs())
    assert f"best validation accuracy {best:.2f} %" in printed
    (line,) = [line for line in printed.splitlines() if "359 samples" in line]
    assert line.startswith(f"best checkpoint by validation accuracy, {best:.2f} %: test loss ")
    (record,) = json.loads((folder / "tiny.lifwhole.json").read_text())
    figures = record["card"]
    assert figures["validation_accuracy"] == pytest.approx(best, abs=1e-6)
    assert f"top-1 {figures['accuracy']:.2f} %" in line
    assert figures["checksums"].keys() == {"training", "validation", "test"}
    call("-e", "--resume", "tiny.lifwhole_best.pth")
    tested = (folder / "tiny.lifwhole_evaluation.tsv").read_text().splitlines()[1].split("\t")
    assert float(tested[4]) == pytest.approx(figures["accuracy"], abs=1e-6)
    killed_at(4)
    with pytest.raises(Killed):
        call(*flags)
    killed_at(None)
    for other, said in (
        (("--val_split", "0.1"), "--val_split 0.1: tiny.lif.pth was trained with --val_split 0.2"),
        (("--val_split", "0"), "--val_split 0: tiny.lif.pth was trained with --val_split 0.2"),
        (("--manualSeed", "9"), "trained with the seed 8"),
    ):
        before = {path: path.read_bytes() for path in folder.iterdir()}
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            call(*flags, *other, "--resume", "auto")
        (error,) = capsys.readouterr().err.splitlines()
        assert ended.value.code == 2 and said in error
        assert {path: path.read_bytes() for path in folder.iterdir()} == before
    call(*flags, "--resume", "auto")
    assert (folder / "tiny.lif.txt").read_text() == (folder / "tiny.lifwhole.txt").read_text()


OPTIONS = {
    "ema": ("--ema", "0.8"),
    "all": (
        *("--ema", "0.8", "--label_smoothing", "0.1", "--optimizer", "AdamW", "--val_split", "0.2"),
        *("--accumulate", "2", "--on_nan", "skip"),
    ),
}
FLAGS = ("--epochs", "3", "--manualSeed", "8", "--lr", "0.02", "--dropout", "0.2")


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_run_killed_within_an_epoch_ends_as_if_it_had_not_been(call, killed_at, options):
    folder = call(*FLAGS, *options, "--name", "whole")
    killed_at(4)
    with pytest.raises(Killed):
        call(*FLAGS, *options, "--save_every", "1")
    assert (folder / "tiny.lif_mid.pth").exists()
    killed_at(None)
    call(*FLAGS, *options, "--resume", "auto")
    _assert_same_end(folder)


def test_two_processes_stopped_within_an_epoch_end_as_if_they_had_not_been(tmp_path, tiny_flags):
    flags = ["tests/cifar/tiny_net.py", "cifar/main_multiple_gpus.py", *tiny_flags, *FLAGS]
    flags += OPTIONS["all"]
    ranks.run(2, *flags, "--name", "whole")
    dying = ranks.start(2, *flags, "--save_every", "1", TINY_DIES_AT="4")
    for process in dying:
        process.communicate(timeout=60)
    assert (tmp_path / "digits" / "tiny.lif_mid.pth").exists()
    ranks.run(2, *flags, "--resume", "auto")
    _assert_same_end(tmp_path / "digits")


def _assert_same_end(folder):
    assert (folder / "tiny.lif.txt").read_text() == (folder / "tiny.lifwhole.txt").read_text()
    for kind in (".pth", "_best.pth", "_ema.pth"):
        ends = [checkpoint.load(folder / f"tiny.lif{name}{kind}") for name in ("", "whole")]
        for state in ("state_dict", "ema_state_dict"):
            for key, value in ends[0].get(state, {}).items():
                assert torch.equal(value, ends[1][state][key]), (kind, state, key)
        for key in ("epoch", "acc", "best_acc", "ema_acc", "ema_best_acc"):
            assert ends[0].get(key) == ends[1].get(key), (kind, key)


def test_averaged_weights_are_evaluated_from_their_own_file_and_change_no_other(call, capsys):
    folder = call(*FLAGS, "--name", "A")
    call(*FLAGS, "--name", "B", "--ema", "0.8")
    assert (folder / "tiny.lifA.txt").read_text() == (folder / "tiny.lifB.txt").read_text()
    saved = checkpoint.load(folder / "tiny.lifB_ema.pth")
    capsys.readouterr()
    best = pytest.approx(checkpoint.load(folder / "tiny.lifB.pth")["ema_best_acc"])
    (record,) = json.loads((folder / "tiny.lifB.json").read_text())
    assert record["card"]["average"] == {"accuracy": best}
    call("-e", "--resume", "tiny.lifB_ema.pth")
    assert f"top-1 {saved['acc']:.2f} %" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        call(*FLAGS, "--resume", "tiny.lifB_ema.pth")
    assert "cannot train on without optimizer" in capsys.readouterr().err


def test_averaged_weights_that_validation_data_chose_are_tested_once(call, capsys):
    folder = call(*FLAGS, "--name", "V", *OPTIONS["all"])
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if line.startswith("averaged weights")]
    (record,) = json.loads((folder / "tiny.lifV.json").read_text())
    average = record["card"]["average"]
    assert f"{average['validation_accuracy']:.2f} %: test loss" in line
    assert f"top-1 {average['accuracy']:.2f} %" in line
    call("-e", "--resume", "tiny.lifV_ema.pth")
    assert f"top-1 {average['accuracy']:.2f} %" in capsys.readouterr().out


@pytest.mark.parametrize(("decay", "is_noted"), [("0.01", False), ("0.999", True)])
def test_an_average_over_more_than_the_run_is_noted(decay, is_noted, call, capsys):
    call("--epochs", "6", "--ema", decay)
    notes = [line for line in capsys.readouterr().out.splitlines() if "note: --ema" in line]
    assert len(notes) == is_noted


def test_a_run_trained_on_has_a_new_card_without_a_better_checkpoint(call, capsys):
    folder = call("--epochs", "2")
    content = checkpoint.load(folder / "tiny.lif.pth")
    checkpoint.save(folder / "tiny.lif.pth", content | {"best_acc": 100.0})
    best = (folder / "tiny.lif_best.pth").read_bytes()
    call("--epochs", "3", "--resume", "auto")
    assert (folder / "tiny.lif_best.pth").read_bytes() == best
    assert "| epochs | `3` |" in (folder / "tiny.lif_card.md").read_text()
    assert "card" in json.loads((folder / "tiny.lif.json").read_text())[-1]
    capsys.readouterr()
    call("--epochs", "3", "--resume", "auto")  # nothing is left to do
    assert "model card" not in capsys.readouterr().out
