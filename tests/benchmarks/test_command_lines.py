"""How the programs of benchmarks/ answer on the command line."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
MODULES = {"firing_rate.py", "machine.py", "published.py", "spikingjelly_neurons.py"}
FILES = sorted(file.name for file in BENCHMARKS.glob("*.py"))


def files_below(folder):
    return {file for file in folder.rglob("*") if "__pycache__" not in file.parts}


@pytest.mark.parametrize("name", [name for name in FILES if name not in MODULES])
def test_help_prints_the_usage_and_writes_nothing(name, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    before = files_below(BENCHMARKS)
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(BENCHMARKS / name), run_name="__main__")
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {name}")
    assert (files_below(BENCHMARKS), list(tmp_path.iterdir())) == (before, [])


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_says_that_it_is_one(name):
    command = [sys.executable, str(BENCHMARKS / name)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{name} is a module")
    assert done.stderr.count("\n") == 1


def test_the_index_names_every_file():
    index = (BENCHMARKS / "README.md").read_text()
    assert [name for name in FILES if f"`{name}`" not in index] == []
