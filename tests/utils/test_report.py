"""`python -m utils.report`, and `--report` at the end of a run."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from cifar.build import build_context
from cifar.options import build_parser
from models import registry, user_networks
from models.recording.recorder import Recorder
from tests import ranks
from utils import report
from utils.analysis.flags import ReportFlags
from utils.analysis.report import finish_run
from utils.distributed.world import World
from utils.runs import checkpoint
from utils.runs.log import Log
from utils.system import entry
from utils.training.evaluate import evaluate
from utils.training.flags import read_flags
from utils.training.trainer import train

OWN = ("--import", "tests/own_networks.py")
FLAGS = (
    "--dataset digits --model mine.cnn --timesteps 3 --delta_t 0.3 --alpha 0.5 --train-batch 128 "
    "--test-batch 100 --lr 0.1 --warmup 4 --compile off --manualSeed 1 --epochs 1"
)


@pytest.fixture(scope="module", autouse=True)
def own_registry():
    """Keep what `--import` registers to this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_BUILDERS", registry._BUILDERS.copy())
        patch.setattr(user_networks, "_imported", {})
        yield


def run_script(*flags):
    """Run the training script of a single process, as it runs itself."""

    def main():
        args = build_parser(multi=False).parse_args([*FLAGS.split(), *OWN, *flags])
        context = build_context(args, World(torch.device("cpu")))
        (evaluate if args.evaluate else train)(context)
        finish_run(context, Recorder(context.model), read_flags(ReportFlags, args))

    entry.run(main)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run that ended with a report."""
    folder = tmp_path_factory.mktemp("trained")
    run_script("-c", str(folder), "--report", "--stop_confidence", "0.5")
    return folder / "digits"


@pytest.fixture
def call(monkeypatch):
    """Run the program in this process; return the report that it wrote to `out`."""

    def call(checkpoint, *flags, out=None, own=OWN):
        arguments = [str(checkpoint), *own, *flags]
        arguments += [] if out is None else ["--out", str(out)]
        monkeypatch.setattr("sys.argv", ["utils.report", *arguments])
        entry.run(report.main)
        return None if out is None else read(f"{out}_report.json")

    return call


def read(path):
    return json.loads(Path(path).read_text())


def numbers(found):
    """Return what must not depend on engine and ranks: exact counts, and other figures rounded."""
    keys = ("accuracy", "images", "ideal_accuracy", "firing_rate", "spikes", "layers", "energy")
    keys += ("latency", "early_stop", "classes", "calibration", "checksums", "loss")
    return rounded({key: found[key] for key in keys})


def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def test_a_run_ends_with_a_card_and_a_report(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"mine.cnn_card.md", "mine.cnn_best_report.html", "mine.cnn_best_report.json"} <= names
    found = read(trained / "mine.cnn_best_report.json")
    (row,) = Log(trained / "mine.cnn.txt").epochs()
    assert found["latency"]["accuracy"][-1] == found["accuracy"] == pytest.approx(row[-1], abs=1e-6)
    assert found["loss"] == pytest.approx(row[2], abs=1e-6)
    assert len(found["latency"]["accuracy"]) == 3
    assert sum(found["early_stop"]["chosen"]["stopped"]) == found["images"] == 359


def test_the_card_and_the_record_say_what_was_trained(trained):
    card = (trained / "mine.cnn_card.md").read_text()
    found, (entry,) = read(trained / "mine.cnn_best_report.json"), read(trained / "mine.cnn.json")
    card_facts = entry["card"]
    assert card_facts["accuracy"] == found["accuracy"]
    assert card_facts["firing_rate"] == found["firing_rate"]
    assert card_facts["synaptic_operations"] == found["energy"]["synaptic_operations"]
    assert card_facts["checksums"] == found["checksums"]
    for part in (
        f"{found['accuracy']:.2f} %",
        f"{found['energy']['synaptic_operations']:,.0f}",
        found["checksums"]["training"],
        found["checksums"]["test"],
        f"torch {version('torch')}",
        "seed: 1",
        "| timesteps | `3` |",
    ):
        assert part in card, part


@pytest.mark.parametrize("engine", ["folded", "unrolled"])
def test_every_engine_gives_the_numbers_of_the_training(trained, call, tmp_path, engine):
    best = trained / "mine.cnn_best.pth"
    found = call(best, "--engine", engine, "--stop_confidence", "0.5", out=tmp_path / "x")
    assert engine in found["engine"]
    assert numbers(found) == numbers(read(trained / "mine.cnn_best_report.json"))
    top1 = float(evaluated(trained, "--engine", engine)["top-1 (%)"])
    assert found["latency"]["accuracy"][-1] == pytest.approx(top1, abs=1e-6)


def evaluated(folder, *flags):
    """Return the row of an evaluation of a copy of the run, by column."""
    copy = folder.parent / f"copy{len(list(folder.parent.iterdir()))}"
    shutil.copytree(folder, copy / "digits")
    run_script("-c", str(copy), "-e", "--resume", "mine.cnn_best.pth", *flags)
    header, *rows = (copy / "digits" / "mine.cnn_evaluation.tsv").read_text().splitlines()
    return dict(zip(header.split("\t"), rows[-1].split("\t"), strict=True))


def test_two_processes_give_the_numbers_of_one(trained, tmp_path):
    best, out = trained / "mine.cnn_best.pth", tmp_path / "two"
    flags = ("--stop_confidence", "0.5", "--out", out)
    printed = ranks.run(2, "-m", "utils.report", best, *OWN, *flags)
    assert "mine.cnn" in printed[0][0] and printed[1][0] == ""
    found = read(f"{out}_report.json")
    assert "2 processes" in found["device"]
    assert numbers(found) == numbers(read(trained / "mine.cnn_best_report.json"))


def test_firing_rates_are_those_that_an_evaluation_records(trained, call, tmp_path):
    found = call(trained / "mine.cnn_best.pth", out=tmp_path / "x")
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy / "digits")
    flags = ("-c", str(copy), "-e", "--resume", "mine.cnn_best.pth", "--rate_stat", "1", "--report")
    run_script(*flags)
    recorded = torch.load(copy / "digits" / "mine.cnn_firing_rate.dict", weights_only=True)
    rates = {layer["layer"]: layer["firing_rate"] for layer in found["layers"]}
    assert rates == pytest.approx(recorded, rel=1e-12)
    assert (
        numbers(read(copy / "digits" / "mine.cnn_best_report.json"))["layers"]
        == (numbers(found)["layers"])
    )


def failure(capsys, call, *arguments, **options):
    """Return the one line that the program ends with."""
    with pytest.raises(SystemExit) as stop:
        call(*arguments, **options)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_wrong_flag_is_one_line(trained, call, capsys):
    best = trained / "mine.cnn_best.pth"
    before = {path: path.read_bytes() for path in trained.iterdir()}
    for flags, part in (
        (("--stop_confidence", "2"), "--stop_confidence: must be at least 0 and below 1, got 2"),
        (("--mac_pj", "0"), "--mac_pj: must be greater than 0"),
        (("--engine", "x"), "--engine"),
        (("--out", "no/such/folder/x"), "--out no/such/folder/x: no folder"),
    ):
        assert part in failure(capsys, call, best, *flags)
    assert {path: path.read_bytes() for path in trained.iterdir()} == before


def test_a_wrong_checkpoint_is_one_line(trained, call, capsys, tmp_path):
    content = torch.load(trained / "mine.cnn_best.pth", weights_only=True)
    missing = failure(capsys, call, tmp_path / "none.pth")
    assert "CHECKPOINT none.pth: no such file" in missing
    for changes, part in (
        ({"args": None}, "does not say how it was trained"),
        ({"args": content["args"] | {"timesteps": "x"}}, "flags of another version"),
        ({"args": content["args"] | {"timesteps": 0}}, "--timesteps must be at least 1"),
        ({"args": content["args"] | {"dataset": "folder", "path": "/nowhere"}}, "--path /nowhere"),
    ):
        path = tmp_path / "changed.pth"
        changed = {k: v for k, v in (content | changes).items() if v is not None}
        checkpoint.save(path, changed)
        assert part in failure(capsys, call, path)
    assert list(tmp_path.glob("*report*")) == []


def test_code_runs_only_when_the_command_line_names_it(trained, call, capsys, monkeypatch):
    monkeypatch.delitem(registry._BUILDERS, "mine.cnn")
    line = failure(capsys, call, trained / "mine.cnn_best.pth", own=())
    assert "--import tests/own_networks.py" in line
