"""The page of a report: well-formed, self-contained, and true to the numbers."""

from html.parser import HTMLParser

import pytest

from tests.utils.analysis.made import measured
from utils.analysis import page
from utils.analysis.summary import ReportOptions, summarise

VOID = {"meta", "rect", "line", "circle", "polyline"}  # elements without an end


class Reader(HTMLParser):
    """Collects the elements and the text of a page, and checks that elements nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID - {"rect", "circle"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def rendered(names=("cat", "<dog>", "bird"), stop=0.8, **changes):
    summary = summarise(measured(), list(names), ReportOptions(stop)) | changes
    return page.render(summary, "net on data", "a & b", {"command": "python <x> & y"})


def test_elements_nest_and_text_is_escaped():
    reader = Reader(rendered())
    text = "".join(reader.words)
    assert "python <x> & y" in text and "a & b" in text and "<dog>" in text
    assert not {"x", "dog"} & {tag for tag, _ in reader.elements}


def test_nothing_is_loaded_from_elsewhere():
    text = rendered()
    for tag, attributes in Reader(text).elements:
        assert tag not in {"script", "link", "img", "iframe", "object"}
        assert not {"src", "srcset"} & attributes.keys()
    assert "url(" not in text and "@import" not in text


def test_it_has_styles_for_the_dark_and_for_paper():
    text = rendered()
    assert "@media (prefers-color-scheme: dark)" in text and "@media print" in text


def test_numbers_of_the_summary_are_on_the_page():
    text = "".join(Reader(rendered()).words)
    for number in ("75.00 %", "12.50 %", "2.25 of 3", "0.5", "relu1", "linear"):
        assert number in text, number


@pytest.mark.parametrize("stop", [None, 0.8])
def test_the_table_of_stops_is_there_if_asked_for(stop):
    assert ("stopped after step" in rendered(stop=stop)) == (stop is not None)


@pytest.mark.parametrize(
    ("number", "text"),
    [(9.0, "9"), (999.4, "999"), (1696512, "1.70 M"), (138_498_871.2, "138 M"), (5120, "5.12 k")],
)
def test_counts_have_three_digits(number, text):
    assert page._count(number) == text


def test_many_classes_have_no_confusion_matrix_but_the_worst_of_them():
    text = "".join(Reader(rendered(names=[f"class {i}" for i in range(1000)])).words)
    assert "Confusion" not in text and "by label (rows)" not in text
    assert "class 2" in text


def test_a_network_that_never_fires_has_a_page():
    silent = measured()
    for sums in silent.measurements.layers.values():
        sums.spikes_per_step.zero_()
    summary = summarise(silent, ["a", "b", "c"], ReportOptions())
    Reader(page.render(summary, "net", "", {}))
