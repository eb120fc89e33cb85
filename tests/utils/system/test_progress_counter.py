import pytest

from utils.system.progress_counter import ProgressCounter, count_progress


def test_items_pass_in_order_and_about_ten_lines_are_printed(capsys):
    assert list(count_progress(range(95), "Counting", 95)) == list(range(95))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[-1] == "Counting 95/95"


def test_quiet_prints_nothing(capsys):
    assert list(count_progress("abc", "Counting", 3, quiet=True)) == ["a", "b", "c"]
    assert capsys.readouterr().out == ""


def test_a_count_may_start_part_way(capsys):
    with ProgressCounter("Counting", 10, done=8) as count:
        count.add(2)
    assert capsys.readouterr().out == "Counting 10/10\n"


def test_an_error_of_an_item_passes_through():
    with pytest.raises(ZeroDivisionError):
        list(count_progress((1 / n for n in (1, 0)), "Counting", 2))


def test_an_unknown_total_is_no_error(capsys):
    with ProgressCounter("Fetching", 0) as count:
        count.add(5)
    assert "Fetching 5/0" in capsys.readouterr().out
