"""Options of training that are off by default, through kills, stops and several processes."""

import json

import pytest

from utils.datasets.image_tensors import TrainImages
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
