import copy
import csv
import json
import math
import os
import signal
from argparse import Namespace

import pytest
import torch

from models import NeuronSetting
from tests.cifar.tiny_net import tiny_lif
from tests.frozen_args import FrozenArgs
from utils.datasets.image_tensors import TrainImages
from utils.runs import checkpoint, curves
from utils.runs.checkpoint_keys import CheckpointContent
from utils.runs.log import COLUMNS
from utils.training.trainer import scale_threshold_gradients

PUBLISHED_KEYS = {"epoch", "state_dict", "acc", "best_acc", "optimizer"}


class Killed(BaseException):
    """Stands for the end of a process: no handler may see it."""


@pytest.fixture
def killed_before_epoch(monkeypatch):
    """Return a function that ends the next training before an epoch (from 0), or never."""
    original = TrainImages.set_epoch

    def arm(last):
        def set_epoch(self, epoch):
            if epoch == last:
                raise Killed
            original(self, epoch)

        monkeypatch.setattr(TrainImages, "set_epoch", set_epoch)

    return arm


def _log(folder, stem="tiny.lif"):
    return (folder / f"{stem}.txt").read_text()


def _rows(folder, stem="tiny.lif"):
    return [[float(x) for x in line.split()] for line in _log(folder, stem).splitlines()[1:]]


def _evaluations(folder, stem="tiny.lif"):
    with (folder / f"{stem}_evaluation.tsv").open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_a_run_writes_log_checkpoints_curves_and_record(call, capsys):
    folder = call("--epochs", "2", "--manualSeed", "3", "--name", "_x")
    stem = "tiny.lif_x"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        f"{stem}{s}" for s in (".txt", ".pth", "_best.pth", ".pdf", ".json", "_card.md")
    }
    assert _log(folder, stem).splitlines()[0] == "".join(f"{name}\t" for name in COLUMNS)
    rows = _rows(folder, stem)
    assert [row[0] for row in rows] == [0.1, 0.05]
    last = torch.load(folder / f"{stem}.pth", weights_only=True)
    assert PUBLISHED_KEYS <= last.keys() <= CheckpointContent.__annotations__.keys()
    assert last["epoch"] == 2
    assert last["acc"] == pytest.approx(rows[-1][4], abs=1e-6)
    assert last["best_acc"] == pytest.approx(max(row[4] for row in rows), abs=1e-6)
    assert not any(key.startswith("module.") for key in last["state_dict"])
    assert (folder / f"{stem}.pdf").read_bytes().startswith(b"%PDF")
    (record,) = json.loads((folder / f"{stem}.json").read_text())
    assert record["manualSeed"] == 3
    assert record["setting"]["timesteps"] == 2
    assert "folded" in record["engine"]
    printed = capsys.readouterr()
    header = printed.out[: printed.out.index("epoch 1")].splitlines()
    starts = [line.split(":")[0] for line in header if not line.startswith("  ")]
    assert starts == ["dataset", "model", "device", "seed"]
    assert max(map(len, header)) < 80
    assert printed.err == ""


def test_no_flag_is_written_to(call, capsys):
    """`call` passes frozen flags, of which resuming and the random seed were written once."""
    call("--epochs", "1")
    call("--epochs", "2", "--resume", "auto")
    assert capsys.readouterr().err == ""
    with pytest.raises(AttributeError, match="seed = 3"):
        FrozenArgs(Namespace(seed=None)).seed = 3


def test_best_is_the_checkpoint_of_the_best_epoch(call):
    folder = call("--epochs", "4", "--manualSeed", "3")
    accuracies = [row[4] for row in _rows(folder)]
    best = torch.load(folder / "tiny.lif_best.pth", weights_only=True)
    assert best["epoch"] == accuracies.index(max(accuracies)) + 1
    assert best["acc"] == best["best_acc"]


def test_one_seed_gives_one_log(call):
    flags = ("--epochs", "2", "--manualSeed", "5", "--dropout", "0.2", "--engine", "unrolled")
    folder = call(*flags, "--name", "A")
    call(*flags, "--name", "B")
    call(*flags, "--name", "C", "--manualSeed", "6")
    assert _log(folder, "tiny.lifA") == _log(folder, "tiny.lifB")
    assert _log(folder, "tiny.lifA") != _log(folder, "tiny.lifC")


def test_repeatable_kernels_are_asked_for(call, monkeypatch):
    asked = []
    monkeypatch.setattr("utils.training.context.make_deterministic", lambda: asked.append(True))
    call("--epochs", "1")
    call("--epochs", "1", "--deterministic")
    assert asked == [True]


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("last", [1, 2])
def test_stopping_and_resuming_writes_the_log_of_not_stopping(
    call, killed_before_epoch, optimizer, last
):
    flags = ("--epochs", "4", "--optimizer", optimizer, "--lr", "0.02", "--dropout", "0.2")
    whole = call(*flags, "--name", "whole", "--manualSeed", "8")
    killed_before_epoch(last)
    with pytest.raises(Killed):
        call(*flags, "--name", "broken", "--manualSeed", "8")
    killed_before_epoch(None)
    folder = call(*flags, "--name", "broken", "--resume", "tiny.lifbroken.pth")
    assert _log(folder, "tiny.lifbroken") == _log(whole, "tiny.lifwhole")
    ends = [torch.load(folder / f"tiny.lif{n}.pth", weights_only=True) for n in ("whole", "broken")]
    for key, value in ends[0]["state_dict"].items():
        assert torch.equal(value, ends[1]["state_dict"][key])
    for key in ("epoch", "iteration", "acc", "best_acc", "rows", "manualSeed"):
        assert ends[0][key] == ends[1][key]
    assert not list(folder.glob("*old*"))


def test_a_run_killed_between_log_and_checkpoint_repeats_that_epoch(
    call, monkeypatch, killed_before_epoch
):
    whole = call("--epochs", "3", "--manualSeed", "8", "--name", "whole")
    killed_before_epoch(2)
    with pytest.raises(Killed):
        call("--epochs", "3", "--manualSeed", "8")
    killed_before_epoch(None)

    def save(path, content):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save)
        with pytest.raises(Killed):
            call("--epochs", "3", "--resume", "tiny.lif.pth")
    assert len(_rows(whole)) == 3
    folder = call("--epochs", "3", "--resume", "tiny.lif.pth")
    assert _log(folder) == _log(whole, "tiny.lifwhole")


def test_starting_anew_keeps_the_earlier_run_aside_and_says_so(call, capsys):
    folder = call("--epochs", "1", "--manualSeed", "1")
    before = {p.name.replace("tiny.lif", ""): p.read_bytes() for p in folder.iterdir()}
    capsys.readouterr()
    call("--epochs", "1", "--manualSeed", "2")
    aside = {
        p.name.replace("tiny.lif.old-1", ""): p.read_bytes() for p in folder.glob("tiny.lif.old-1*")
    }
    assert aside == before
    assert "tiny.lif.old-1" in capsys.readouterr().out
    call("--epochs", "2", "--resume", "tiny.lif.old-1.pth", "--name", "B")
    assert len(_rows(folder, "tiny.lifB")) == 2


def test_resuming_the_best_keeps_what_came_later_aside(call):
    folder = call("--epochs", "4", "--manualSeed", "3")
    rows = _log(folder).splitlines()
    best = torch.load(folder / "tiny.lif_best.pth", weights_only=True)["epoch"]
    call("--epochs", "5", "--resume", "tiny.lif_best.pth")
    assert _log(folder, "tiny.lif.old-1").splitlines() == rows
    assert _log(folder).splitlines()[: best + 1] == rows[: best + 1]
    assert len(_rows(folder)) == 5
    assert (folder / "tiny.lif_best.pth").exists()


def test_a_finished_run_resumed_changes_nothing(call, capsys):
    folder = call("--epochs", "1", "--manualSeed", "1")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    call("--epochs", "1", "--resume", "tiny.lif.pth")
    assert "nothing to train" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_published_checkpoint_is_resumed(call):
    folder = call("--epochs", "2", "--manualSeed", "3")
    ours = torch.load(folder / "tiny.lif.pth", weights_only=True)
    published = {key: ours[key] for key in PUBLISHED_KEYS}
    published["state_dict"] = {f"module.{k}": v for k, v in ours["state_dict"].items()}
    published["best_acc"] = torch.tensor(ours["best_acc"])
    torch.save(published, folder / "theirs.pth")
    rows = _log(folder).splitlines()
    evaluation = "0.000000\t0.000000\t1.500000\t0.000000\t50.000000\t"  # as theirs logs it
    (folder / "theirs.txt").write_text("\n".join([*rows[:2], evaluation, rows[2], ""]))
    call("--epochs", "3", "--resume", "theirs.pth", "--name", "B")
    *earlier, row = _rows(folder, "tiny.lifB")
    assert earlier == _rows(folder)
    assert row[0] == pytest.approx(0.05 * (1 + math.cos(math.pi * 2 / 3)), abs=1e-6)
    assert torch.load(folder / "tiny.lifB.pth", weights_only=True)["epoch"] == 3


def test_an_evaluation_writes_its_own_table_and_the_firing_rates(call, capsys):
    folder = call("--epochs", "2", "--manualSeed", "3")
    best = torch.load(folder / "tiny.lif_best.pth", weights_only=True)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    call("-e", "--resume", "tiny.lif_best.pth", "--rate_stat", "1")
    assert f"top-1 {best['acc']:.2f} %" in capsys.readouterr().out
    (row,) = _evaluations(folder)
    assert (row["checkpoint"], row["timesteps"], row["samples"]) == (
        "tiny.lif_best.pth",
        "2",
        "359",
    )
    assert float(row["top-1 (%)"]) == pytest.approx(best["acc"], abs=1e-6)
    rates = torch.load(folder / "tiny.lif_firing_rate.dict", weights_only=True)
    assert rates.keys() == {"relu1", "relu2"}
    assert all(0 < rate < 1 for rate in rates.values())
    assert float(row["firing rate"]) == pytest.approx(sum(rates.values()) / 2, abs=1e-6)
    assert all(path.read_bytes() == content for path, content in before.items())


def test_the_published_row_of_an_evaluation_is_logged_when_asked_for(call):
    folder = call("-e", "--log_evaluation")
    (row,), (evaluation,) = _rows(folder), _evaluations(folder)
    assert row == [0, 0, float(evaluation["loss"]), 0, float(evaluation["top-1 (%)"])]
    assert (evaluation["checkpoint"], evaluation["firing rate"]) == ("untrained", "")


@pytest.mark.parametrize("last", [0, 2])
def test_resuming_automatically_writes_the_log_of_not_stopping(call, killed_before_epoch, last):
    whole = call("--epochs", "3", "--manualSeed", "8", "--name", "whole")
    killed_before_epoch(last)
    with pytest.raises(Killed):
        call("--epochs", "3", "--manualSeed", "8", "--resume", "auto")
    killed_before_epoch(None)
    folder = call("--epochs", "3", "--manualSeed", "8", "--resume", "auto")
    assert _log(folder) == _log(whole, "tiny.lifwhole")


def test_resuming_automatically_past_a_damaged_checkpoint(call, killed_before_epoch, capsys):
    folder = call("--epochs", "4", "--manualSeed", "8", "--name", "whole")
    killed_before_epoch(2)
    with pytest.raises(Killed):
        call("--epochs", "4", "--manualSeed", "8")
    killed_before_epoch(None)
    (folder / "tiny.lif_previous.pth").write_bytes((folder / "tiny.lif_best.pth").read_bytes())
    (folder / "tiny.lif.pth").write_bytes(b"lost")
    call("--epochs", "4", "--resume", "auto")
    assert "skipping a checkpoint: --resume tiny.lif.pth" in capsys.readouterr().out
    assert _log(folder) == _log(folder, "tiny.lifwhole")


def test_an_evaluation_in_between_does_not_disturb_resuming(call, killed_before_epoch):
    whole = call("--epochs", "2", "--manualSeed", "3", "--name", "whole")
    killed_before_epoch(1)
    with pytest.raises(Killed):
        call("--epochs", "2", "--manualSeed", "3")
    killed_before_epoch(None)
    call("-e", "--resume", "tiny.lif.pth", "--log_evaluation")
    folder = call("--epochs", "2", "--resume", "tiny.lif.pth")
    assert _log(folder) == _log(whole, "tiny.lifwhole")


def test_the_checkpoint_alone_says_what_to_evaluate(call, capsys):
    folder = call("--epochs", "1", "--manualSeed", "3", "--name", "NAME")
    capsys.readouterr()
    for name in ("tiny.lifNAME_best.pth", str(folder / "tiny.lifNAME_best.pth")):
        call("-e", "--resume", name, tiny=False)
        (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("note: from")]
        assert (
            "--dataset digits --model tiny.lif --timesteps 2 --Vth 0.6 --delta_t 0.5 --name" in line
        )
    rows = _evaluations(folder, "tiny.lifNAME")
    assert [row["timesteps"] for row in rows] == ["2", "2"]
    assert {row["top-1 (%)"] for row in rows} == {f"{_rows(folder, 'tiny.lifNAME')[0][4]:.6f}"}
    call("-e", "--resume", "tiny.lifNAME.pth", "--timesteps", "4", "--Vth", "0.5", tiny=False)
    assert _evaluations(folder, "tiny.lifNAME")[-1]["timesteps"] == "4"
    assert "note: --Vth was 0.6" in capsys.readouterr().out


def test_a_path_as_the_shell_completes_it_is_resumed(call, monkeypatch):
    folder = call("--epochs", "1", "--manualSeed", "3")
    call("--epochs", "2", "--resume", str(folder / "tiny.lif.pth"))
    assert len(_rows(folder)) == 2 and not list(folder.glob("*old*"))
    monkeypatch.chdir(folder.parent)
    call("--epochs", "3", "--resume", "digits/tiny.lif.pth", "--name", "B")
    assert len(_rows(folder, "tiny.lifB")) == 3


def test_any_name_goes_on_the_curves(call):
    assert (call("--epochs", "1", "--name", "$_$") / "tiny.lif$_$.pdf").exists()


@pytest.mark.parametrize("resume", ["auto", "tiny.lif.pth"])
def test_curves_are_drawn_at_the_next_start_after_a_kill(call, monkeypatch, tmp_path, resume):
    def kill(*_):
        raise Killed

    folder = tmp_path / "digits"
    with monkeypatch.context() as patch:
        patch.setattr("utils.training.trainer.save_curves", kill)
        with pytest.raises(Killed):
            call("--epochs", "2", "--manualSeed", "3")
    assert (folder / "tiny.lif_previous.pth").exists()
    for leftover in (".tiny.lif.pdf.tmp", ".tiny.lif.pth.tmp", ".tiny.lif.lock"):
        (folder / leftover).write_text("process 1 on elsewhere")
    (folder / ".tiny.lif2.pth.tmp").write_text("of another run")
    call("--epochs", "2", "--resume", resume)
    names = {path.name.replace("tiny.lif", "") for path in folder.iterdir()}
    assert names == {".txt", ".pth", "_best.pth", ".pdf", ".json", "_card.md", ".2.pth.tmp"}


def test_a_stop_while_curves_are_drawn_lets_them_be_finished(call, monkeypatch):
    original = curves.save_curves

    def save_curves(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        original(*arguments)

    monkeypatch.setattr("utils.training.trainer.save_curves", save_curves)
    folder = call("--epochs", "1")
    names = {path.name.replace("tiny.lif", "") for path in folder.iterdir()}
    assert names == {".txt", ".pth", "_best.pth", ".pdf", ".json", "_card.md"}


def test_rate_stat_off_saves_no_rates(call):
    folder = call("-e")
    assert [path.name for path in folder.iterdir()] == ["tiny.lif_evaluation.tsv"]


def test_an_approximate_engine_is_labelled(call, capsys):
    folder = call("--epochs", "1", "--engine", "rate")
    assert "APPROXIMATE" in capsys.readouterr().out
    (record,) = json.loads((folder / "tiny.lif.json").read_text())
    assert "APPROXIMATE" in record["engine"]


def test_other_neuron_settings_than_the_checkpoints_are_pointed_out(call, capsys):
    call("--epochs", "1", "--manualSeed", "3")
    call("-e", "--resume", "tiny.lif.pth", "--timesteps", "4")
    assert "--timesteps was 2 in tiny.lif.pth, is 4" in capsys.readouterr().out


def test_interrupting_is_one_line_and_keeps_the_epochs_before(call, capsys, monkeypatch):
    def set_epoch(self, epoch, original=TrainImages.set_epoch):
        if epoch == 1:
            raise KeyboardInterrupt
        original(self, epoch)

    monkeypatch.setattr(TrainImages, "set_epoch", set_epoch)
    with pytest.raises(SystemExit) as ended:
        call("--epochs", "2")
    assert ended.value.code == 130
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_threshold_gradients_alone_are_scaled(call):
    net = tiny_lif(NeuronSetting(timesteps=2))
    images, twin = torch.randn(4, 3, 32, 32), copy.deepcopy(net)
    scale_threshold_gradients(net, 3)
    for model in (net, twin):
        model(images).square().sum().backward()
    for (name, scaled), plain in zip(net.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(scaled.grad, plain.grad * (3 if name.endswith(".Vth") else 1))


def test_a_random_seed_is_printed_and_kept_by_resuming(call, capsys):
    folder = call("--epochs", "1")
    seed = torch.load(folder / "tiny.lif.pth", weights_only=True)["manualSeed"]
    assert 1 <= seed <= 10000
    call("--epochs", "2", "--resume", "tiny.lif.pth")
    assert capsys.readouterr().out.count(f"seed: {seed}\n") == 2
