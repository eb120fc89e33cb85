"""`python -m utils.compare`: a table and a picture of several runs."""

import statistics
import sys

import pytest

from utils import compare
from utils.runs.log import Log
from utils.system import entry


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Run the program in a folder of logs; return its status, output and errors."""
    monkeypatch.chdir(tmp_path)
    for name, accuracies in (("a", (10, 30)), ("b", (40, 20)), ("long", (1, 2, 3))):
        Log(tmp_path / f"{name}.txt").start([[0.1, 2.0, 2.1, 9.0, a] for a in accuracies])
    Log(tmp_path / "empty.txt").start()
    (tmp_path / "text.txt").write_text("text")
    (tmp_path / "a.json").write_text("[]")
    (tmp_path / "folder").mkdir()

    def call(line):
        monkeypatch.setattr(sys, "argv", ["compare", *line.split()])
        status = 0
        try:
            entry.run(compare.main)
        except SystemExit as ended:
            status = ended.code
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


def test_a_table_of_means_and_standard_deviations(call):
    status, printed, _ = call("a.txt b.txt long.txt --label both both other")
    header, both, other = (line.split("  ") for line in printed.splitlines())
    assert status == 0 and header[0].startswith("runs")
    best, last = statistics.stdev([30, 40]), statistics.stdev([30, 20])
    assert [entry for entry in map(str.strip, both) if entry] == [
        *("both", "2", "2", "test"),
        f"35.00 ± {best:.2f}",
        f"25.00 ± {last:.2f}",
    ]
    assert [entry for entry in map(str.strip, other) if entry] == [
        *("other", "1", "3", "test"),
        "3.00",
        "3.00",
    ]


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_curves_are_drawn(call, tmp_path, suffix):
    status, printed, errors = call(f"a.txt b.txt --label x x --out curves.{suffix}")
    assert (status, errors) == (0, "") and f"curves.{suffix}" in printed
    assert (tmp_path / f"curves.{suffix}").stat().st_size > 1000


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "LOG"),
        ("nowhere.txt", "LOG nowhere.txt: no such file"),
        ("folder", "LOG folder: not a file"),
        ("empty.txt", "LOG empty.txt: it holds no epoch"),
        ("text.txt", "text.txt is not a log"),
        ("a.json", "LOG a.json: not a log; name a run's .txt or .jsonl"),
        ("a.txt ./a.txt", "LOG a.txt: another LOG"),
        ("a.txt long.txt --label x x", "LOG long.txt: 3 epochs"),
        ("a.txt b.txt --label x", "--label: 1 for 2 LOG; give one label for each log"),
        ("a.txt --out a.txt", "--out a.txt: name a .png"),
        ("a.txt --out nowhere/x.png", "--out nowhere/x.png: no folder"),
        ("a.txt --out folder", "--out folder"),
    ],
)
def test_bad_input_is_named_in_one_line(call, tmp_path, line, said):
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    status, printed, errors = call(line)
    (error,) = errors.splitlines()
    assert (status, printed) == (2, "") and said in error
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
