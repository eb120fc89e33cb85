import pytest

from tests.utils.analysis.made import measured
from utils.analysis.summary import ReportOptions, summarise
from utils.analysis.text_report import joules, lines, percent


def test_lines_fit_a_terminal():
    text = list(lines(summarise(measured(), ["cat", "dog", "bird"], ReportOptions(0.8))))
    assert max(map(len, text)) <= 80
    joined = "\n".join(text)
    for part in ("relu1", "after 1 2 3 steps: 25.00 50.00 75.00", "2.25 steps", "bird 50.0 %"):
        assert part in joined, part


@pytest.mark.parametrize(
    ("picojoules", "text"),
    [
        (0.0, "0.00 pJ"),
        (9.0, "9.00 pJ"),
        (999.0, "999 pJ"),
        (1000.0, "1.00 nJ"),
        (409_000.0, "409 nJ"),
        (2.5e6, "2.50 uJ"),
        (3.1e9, "3.10 mJ"),
    ],
)
def test_energies_have_readable_units(picojoules, text):
    assert joules(picojoules) == text


def test_an_undefined_share_is_a_dash():
    assert (percent(None), percent(0.125)) == ("-", "12.50 %")
