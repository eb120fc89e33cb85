import pytest

from utils.system.text import listed, print_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain café 猫", "plain café 猫"),
        ("\x1b[2Jcleared", r"\x1b[2Jcleared"),
        ("two\nlines\r\t", r"two\nlines\r\t"),
        ("\x07\x7f\x9b", r"\x07\x7f\x9b"),
        ("right \u202e to left", r"right \u202e to left"),
        ("line\u2028separator", r"line\u2028separator"),
        ("not UTF-8: \udcff", r"not UTF-8: \udcff"),
    ],
)
def test_characters_that_are_not_printable_are_escaped(text, shown):
    assert printable(text) == shown
    printable(text).encode()  # any terminal can show it


def test_a_line_stays_one_line(capsys):
    print_line("a\nb")
    assert capsys.readouterr().out == "a\\nb\n"


def test_a_very_long_line_is_cut(capsys):
    print_line("x" * 10**6)
    assert capsys.readouterr().out == "x" * 4000 + "...\n"


def test_long_lists_are_cut():
    names = list("abcdefghij")
    assert listed(names[:8]) == "a, b, c, d, e, f, g, h"
    assert listed(names) == "a, b, c, d, e, f, g, h and 2 more"
    assert listed(names, 1) == "a and 9 more"
    assert listed([]) == ""
