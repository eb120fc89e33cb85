"""`--import`: a network of the user's own, trained, evaluated and resumed."""

import json

import pytest

from models import registry, user_networks
from tests.ranks import ROOT
from utils.runs import checkpoint

SOURCE = str(ROOT / "tests" / "own_networks.py")
OWN = ("--epochs", "1", "--model", "mine.cnn", "--import", SOURCE)


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    """Return a function that forgets what was imported, as a new process has."""

    def forget():
        monkeypatch.setattr(registry, "_BUILDERS", builders.copy())
        monkeypatch.setattr(user_networks, "_imported", {})

    builders = registry._BUILDERS
    forget()
    return forget


def _refused(call, capsys, *flags):
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        call(*flags)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_it_trains_and_is_recorded(call):
    folder = call(*OWN)
    assert checkpoint.load(folder / "mine.cnn.pth")["args"]["imports"] == [SOURCE]
    (record,) = json.loads((folder / "mine.cnn.json").read_text())
    assert record["args"]["imports"] == [SOURCE]


def test_a_checkpoint_runs_no_code_unless_the_command_line_names_it(call, forget, capsys):
    call(*OWN)
    forget()
    for flags in (("--resume", "mine.cnn.pth"), ("--resume", "auto"), ("-e", "--resume", "auto")):
        line = _refused(call, capsys, "--model", "mine.cnn", *flags)
        assert f"--import {SOURCE}" in line and "mine.cnn.pth" in line
    call(*OWN, "--epochs", "2", "--resume", "auto")
    assert "epoch 2/2: " in capsys.readouterr().out


def test_a_name_like_those_of_imagenet_is_no_obstacle(call):
    assert (call(*OWN, "--model", "preresnet_mine.cnn") / "preresnet_mine.cnn.pth").exists()


def test_without_the_import_the_name_is_unknown(call, capsys):
    assert "unknown model 'mine.cnn'" in _refused(call, capsys, "--model", "mine.cnn")


def test_a_source_that_fails_is_one_line(call, capsys, tmp_path):
    (tmp_path / "fails.py").write_text("import torch\n1 / 0\n")
    line = _refused(call, capsys, "--import", str(tmp_path / "fails.py"))
    assert line.startswith("error: --import ")
    assert line.endswith("ZeroDivisionError: division by zero (fails.py, line 2)")


def test_a_network_that_breaks_a_rule_is_one_line(call, capsys, tmp_path):
    text = (ROOT / "tests" / "own_networks.py").read_text()
    (tmp_path / "mine.py").write_text(text.replace("self.pool(", "nn.functional.relu("))
    line = _refused(call, capsys, "--model", "mine.cnn", "--import", str(tmp_path / "mine.py"))
    assert line.startswith("error: --model mine.cnn: TypeError: only linear maps may stand between")
    assert line.endswith("(mine.py, line 27)")
