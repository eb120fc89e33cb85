from datetime import datetime

import pytest

from utils.runs.evaluation_table import COLUMNS, Evaluation, append_evaluation
from utils.system.errors import UserError

TRAINED = Evaluation("x_best.pth", 20, 0.25, 95.4, 99.875, 10000, 0.0825)


def test_each_evaluation_is_a_dated_row(tmp_path):
    path = tmp_path / "x_evaluation.tsv"
    append_evaluation(path, TRAINED)
    append_evaluation(path, Evaluation("untrained", None, 2.3, 10.0, 50.0, 359))
    header, first, second = (line.split("\t") for line in path.read_text().splitlines())
    assert tuple(header) == COLUMNS
    date, *values = first
    assert datetime.fromisoformat(date).tzinfo
    assert values == ["x_best.pth", "20", "0.250000", "95.400000", "99.875000", "10000", "0.082500"]
    assert second[1:] == ["untrained", "", "2.300000", "10.000000", "50.000000", "359", ""]


def test_another_table_is_left_alone(tmp_path):
    path = tmp_path / "x_evaluation.tsv"
    path.write_bytes(b"a\tb\n\xff\n")
    with pytest.raises(UserError, match=r"x_evaluation\.tsv"):
        append_evaluation(path, TRAINED)
    assert path.read_bytes() == b"a\tb\n\xff\n"


def test_a_name_with_control_characters_stays_in_its_column(tmp_path):
    path = tmp_path / "x_evaluation.tsv"
    append_evaluation(path, Evaluation("a\tb\n.pth", 1, 1.0, 1.0, 1.0, 1))
    assert path.read_text().splitlines()[1].split("\t")[1] == r"a\tb\n.pth"
