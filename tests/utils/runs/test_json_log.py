import json
import math

import pytest

from tests.full_disk import largest_file
from utils.runs.json_log import NAMES, JsonLog
from utils.runs.log import COLUMNS
from utils.system.errors import UserError

ROW = [0.1, 2.302585092994046, 2.3, 10.0, 12.345678901234567]


def test_a_line_per_epoch_with_all_digits(tmp_path):
    log = JsonLog(tmp_path / "x.jsonl")
    log.write([ROW, [0.05] * 5], last_epoch=7)
    first, second = map(json.loads, log.path.read_text().splitlines())
    assert first == {"epoch": 6, **dict(zip(NAMES, ROW, strict=True))}
    assert second["epoch"] == 7
    assert log.read() == [ROW, [0.05] * 5]
    assert len(NAMES) == len(COLUMNS)


def test_no_epoch_is_an_empty_file(tmp_path):
    log = JsonLog(tmp_path / "x.jsonl")
    log.write([], last_epoch=0)
    assert log.path.read_text() == "" and log.read() == []


def test_what_json_cannot_express_is_null(tmp_path):
    log = JsonLog(tmp_path / "x.jsonl")
    log.write([[0.1, 1.0, math.inf, 1.0, 1.0]], last_epoch=1)
    assert '"test_loss": null' in log.path.read_text()
    assert math.isnan(log.read()[0][2])


def test_a_full_disk_leaves_the_lines_before(tmp_path):
    log = JsonLog(tmp_path / "x.jsonl")
    log.write([ROW], last_epoch=1)
    before = log.path.read_bytes()
    with largest_file(len(before) + 10), pytest.raises(UserError, match=r"x\.jsonl"):
        log.write([ROW, ROW], last_epoch=2)
    assert log.path.read_bytes() == before


@pytest.mark.parametrize("text", ["{", "[]\n", '{"epoch": 1}\n', "1\n", "\0", '{"epoch": "x"}'])
def test_another_file_is_refused_by_name(tmp_path, text):
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(UserError, match=r"x\.jsonl"):
        JsonLog(tmp_path / "x.jsonl").read()
