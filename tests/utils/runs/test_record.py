import json

import pytest

from utils.runs.record import append_record
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
