import math

import pytest

from utils.runs.log import COLUMNS, Log, evaluation_row
from utils.system.errors import UserError

ROW = [0.1, 2.302585, 2.3, 10.0, 12.3456789]


def test_writes_tab_ended_entries_of_six_decimals(tmp_path):
    log = Log(tmp_path / "x.txt")
    log.append(ROW)
    header, row = log.path.read_text().splitlines()
    assert header == "Learning Rate\tTrain Loss\tValid Loss\tTrain Acc.\tValid Acc.\t"
    assert row == "0.100000\t2.302585\t2.300000\t10.000000\t12.345679\t"


def test_restarting_with_its_own_rows_changes_no_byte(tmp_path):
    log = Log(tmp_path / "x.txt")
    for k in range(5):
        log.append([0.1 / 3**k, 7.123456 / (k + 1), 1e-7, 33.333333, 100.0])
    before = log.path.read_bytes()
    log.start(log.read())
    assert log.path.read_bytes() == before


@pytest.mark.parametrize(
    "row", [evaluation_row(1.0, 50.0), [0.0, math.nan, 1.0, math.nan, 50.0]], ids=str
)
def test_evaluations_are_not_epochs(tmp_path, row):
    """Published ones have zeros, those of earlier versions nan, for what is not known."""
    log = Log(tmp_path / "x.txt")
    log.append(ROW)
    log.append(row)
    log.append(ROW)
    assert len(log.read()) == 3
    assert len(log.epochs()) == 2


def test_no_file_has_no_rows(tmp_path):
    assert Log(tmp_path / "x.txt").read() == []


def test_a_row_cut_by_a_kill_is_none(tmp_path):
    log = Log(tmp_path / "x.txt")
    log.append(ROW)
    with log.path.open("a") as file:
        file.write("0.1000\t2.30")
    assert len(log.read()) == 1


@pytest.mark.parametrize(
    "text", ["a,b\n1,2\n", "", "Learning Rate\tTrain Loss\n", "\t".join(COLUMNS) + "\n1 2\n"]
)
def test_another_table_is_refused_by_name(tmp_path, text):
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(UserError, match=r"x\.txt"):
        Log(tmp_path / "x.txt").read()


def test_completing_adds_what_is_missing_and_mends_what_is_cut(tmp_path):
    log, rows = Log(tmp_path / "x.txt"), [[float(i)] * 5 for i in range(1, 5)]
    log.complete(rows[:1])
    log.append([0.0, math.nan, 0.0, math.nan, 0.0])  # an evaluation stays where it is
    log.complete(rows[:2])
    log.complete(rows[:2])
    assert len(log.read()) == 3 and log.epochs() == rows[:2]
    log.path.write_text(log.path.read_text()[:-9])
    log.complete(rows[:3])
    assert log.read() == rows[:3]
    log.path.write_bytes(bytes(10))
    log.complete(rows)
    assert log.read() == rows
