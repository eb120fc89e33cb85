"""`--config FILE` in a run."""

import json

from utils.runs import checkpoint
from utils.runs.log import Log

FLAGS = ("--epochs", "2", "--lr", "0.02", "--dropout", "0.2", "--nesterov", "--mean", *"000")


def test_a_run_is_repeated_from_its_record(call):
    """The seed, which was drawn, is in the record too."""
    folder = call(*FLAGS)
    record = folder / "tiny.lif.json"
    call("--config", str(record), "--name", "again", tiny=False)
    logs = [(folder / f"tiny.lif{name}.txt").read_bytes() for name in ("", "again")]
    assert logs[0] == logs[1]
    ends = [checkpoint.load(folder / f"tiny.lif{name}.pth") for name in ("", "again")]
    assert ends[0]["rows"] == ends[1]["rows"]
    args = [content["args"] for content in ends]
    assert {k: v for k, v in args[0].items() if v != args[1][k]} == {"name": "", "manualSeed": None}
    assert json.loads(record.read_text())[0]["args"] == args[0]


def test_a_record_continues_its_own_run(call):
    folder = call(*FLAGS)
    record = folder / "tiny.lif.json"
    call("--config", str(record), "--resume", "auto", "--epochs", "3", tiny=False)
    assert len(Log(folder / "tiny.lif.txt").epochs()) == 3
    assert len(json.loads(record.read_text())) == 2
    assert not list(folder.glob("*.old-*"))


def test_the_files_of_a_run_repeated_under_its_name_are_kept(call):
    folder = call(*FLAGS, "--epochs", "1")
    call("--config", str(folder / "tiny.lif.json"), tiny=False)
    assert (folder / "tiny.lif.old-1.txt").read_bytes() == (folder / "tiny.lif.txt").read_bytes()
