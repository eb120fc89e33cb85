"""Reports and model cards of the ImageNet program's networks."""

import json

import pytest

from models import registry
from tests.imagenet.tiny_net import BUILDERS
from utils import report
from utils.runs.log import Log
from utils.system import entry

ANN = "--arch preresnet_ann.tiny --name ann "
SNN = "--arch preresnet_snn.tiny_lif --name snn "


def failure(capsys, call):
    """Return the one line that `call` ends with."""
    with pytest.raises(SystemExit) as stop:
        call()
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.fixture
def program(monkeypatch):
    """Run `python -m utils.report` in this process."""
    monkeypatch.setattr(registry, "_BUILDERS", registry._BUILDERS | BUILDERS)

    def program(*arguments):
        monkeypatch.setattr("sys.argv", ["utils.report", *map(str, arguments)])
        entry.run(report.main)

    return program


def test_a_spiking_network_gets_a_card_and_a_report(call, program, tmp_path):
    folder = call(SNN + "--report")
    found = json.loads((folder / "snn_best_report.json").read_text())
    (row,) = Log(folder / "snn.txt").epochs()
    assert found["latency"]["accuracy"][-1] == pytest.approx(row[-1], abs=1e-6)
    assert [layer["layer"] for layer in found["layers"]][:2] == ["relu1", "layer1[0].relu1"]
    assert [row["kind"] for row in found["energy"]["layers"]] == ["MAC", "AC", "AC", "AC"]
    assert f"{found['accuracy']:.2f} %" in (folder / "snn_card.md").read_text()
    program(folder / "snn_best.pth", "--out", tmp_path / "again", "--test-batch", "2")
    again = json.loads((tmp_path / "again_report.json").read_text())
    for key in ("latency", "energy", "checksums", "classes"):
        assert again[key] == found[key]


def test_an_ann_gets_a_card_but_no_report(call, program, capsys):
    folder = call(ANN)
    card, (entry,) = (
        (folder / "ann_card.md").read_text(),
        json.loads((folder / "ann.json").read_text()),
    )
    assert "| accuracy |" in card and "firing rate" not in card
    assert "firing_rate" not in entry["card"]
    capsys.readouterr()
    line = failure(capsys, lambda: call(ANN + "--report"))
    assert line.startswith("error: --report: --arch preresnet_ann.tiny has no neurons")
    line = failure(capsys, lambda: program(folder / "ann_best.pth"))
    assert "preresnet_ann.tiny has no spiking neurons" in line


def test_missing_data_are_named(call, program, capsys):
    folder = call(SNN)
    capsys.readouterr()
    line = failure(capsys, lambda: program(folder / "snn_best.pth", "--path", "/nowhere"))
    assert "--data /nowhere" in line
