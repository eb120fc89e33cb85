"""The check of the project on a GPU, on the CPU and tiny."""

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from scripts import gpu_check

SHELL = Path(gpu_check.__file__).with_suffix(".sh")


def test_a_tiny_check_on_the_cpu(tmp_path, monkeypatch, capsys):
    flags = ["--device", "cpu", "--tiny", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", *flags])
    with pytest.raises(SystemExit) as stop:
        gpu_check.main()
    page = (tmp_path / "page.md").read_text()
    assert stop.value.code == 0, page
    results = json.loads((tmp_path / "results.json").read_text())
    parts = results["parts"]
    assert list(parts) == ["tests", "memory", "speed", "training"]
    assert "passed" in parts["tests"]["summary"]
    assert all(abs(row["allocated / counted"] - 1) < 0.1 for row in parts["memory"]["rows"])
    assert {row["way"] for row in parts["speed"]["rows"]} == {"published", "folded bf16"}
    assert any("epoch 1/1: train loss" in line for line in parts["training"]["lines"])
    for said in (results["machine"]["torch"], "## memory: passed", "| published |", "epoch 1/1"):
        assert said in page
    assert "nothing failed; attach" in capsys.readouterr().out


def test_a_part_that_fails_is_told_and_does_not_end_the_check(tmp_path, monkeypatch, capsys):
    def broken(args):
        raise RuntimeError("no kernel image")

    parts = {"memory": broken, "speed": lambda args: {"ok": True, "rows": [{"ms": 1.0}]}}
    monkeypatch.setattr(gpu_check, "PARTS", parts)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--device", "cpu", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        gpu_check.main()
    page = (tmp_path / "page.md").read_text()
    assert stop.value.code == 1 and "memory failed" in capsys.readouterr().out
    assert "## memory: FAILED" in page and "RuntimeError: no kernel image" in page
    assert "| ms |" in page


def test_failures_of_tests_are_on_the_page(tmp_path, monkeypatch):
    output = "FAILED tests/a.py::b - x\n1 failed, 2 passed in 3 s\n"
    done = subprocess.CompletedProcess([], 1, stdout=output)
    monkeypatch.setattr(gpu_check, "run", lambda command: done)
    found = gpu_check.tests(Namespace(tiny=True))
    assert found == {
        "ok": False,
        "summary": "1 failed, 2 passed in 3 s",
        "failures": ["FAILED tests/a.py::b - x"],
    }


def test_without_a_gpu_the_line_says_what_to_do(monkeypatch):
    monkeypatch.setattr(gpu_check.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py"])
    with pytest.raises(SystemExit, match="torch finds no GPU; .*--device cpu --tiny"):
        gpu_check.main()


def test_the_script_starts_the_program():
    assert subprocess.run(["bash", "-n", str(SHELL)]).returncode == 0
    assert 'scripts/gpu_check.py "$@"' in SHELL.read_text()
