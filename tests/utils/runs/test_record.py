import json
import subprocess

import pytest

from utils.runs import record
from utils.runs.record import append_record, commit, extend_record
from utils.system.errors import UserError


def test_each_start_adds_an_entry_with_versions(tmp_path):
    path = tmp_path / "x.json"
    append_record(path, {"engine": "folded"})
    append_record(path, {"engine": "rate"})
    runs = json.loads(path.read_text())
    assert [run["engine"] for run in runs] == ["folded", "rate"]
    assert {"python", "torch"} <= runs[0]["versions"].keys()
    assert runs[0]["command"]


def test_a_foreign_file_is_refused_and_kept(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("not json")
    with pytest.raises(UserError, match=r"x\.json"):
        append_record(path, {})
    assert path.read_text() == "not json"


def test_facts_are_added_to_the_last_start(tmp_path):
    path = tmp_path / "x.json"
    for engine in ("folded", "rate"):
        append_record(path, {"engine": engine})
    extend_record(path, {"card": {"accuracy": 97.5}})
    first, last = json.loads(path.read_text())
    assert "card" not in first
    assert (last["engine"], last["card"]) == ("rate", {"accuracy": 97.5})


def test_the_commit_is_that_of_the_checkout(tmp_path, monkeypatch):
    def git(*arguments):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    monkeypatch.setattr(record, "_ROOT", tmp_path)
    assert commit() is None
    git("init")
    file = tmp_path / "file"
    file.write_text("1")
    git("add", "file")
    git("commit", "-m", "first")
    git("tag", "v1")
    assert commit() == git("rev-parse", "HEAD")
    file.write_text("2")
    assert commit() == f"{git('rev-parse', 'HEAD')}-dirty"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() is None
