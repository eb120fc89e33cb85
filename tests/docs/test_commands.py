"""The pages name every flag of the programs, with its default, and no other."""

import argparse
import re

import pytest

from cifar.options import build_parser as cifar_parser
from imagenet.options import build_parser as imagenet_parser
from tests.docs.pages import tables
from utils import compare, report, sample_data, show_events

HEADER = ["flag", "cifar/", "imagenet/", "meaning"]
ABSENT = "–"
PROGRAMS = {
    "cifar/main_single_gpu.py": (1, lambda: cifar_parser(multi=False)),
    "cifar/main_multiple_gpus.py": (1, lambda: cifar_parser(multi=True)),
    "imagenet/main.py": (2, imagenet_parser),
}


def rows():
    found = [table[1:] for table in tables("docs/commands.md") if table[0] == HEADER]
    return [row for table in found for row in table]


def documented(column):
    """Return the default that the page gives for each set of spellings, in one of its columns."""
    cells = ((frozenset(re.findall(r"`(.*?)`", row[0])), row[column]) for row in rows())
    return {flags: default for flags, default in cells if default != ABSENT}


def actual(parser):
    """Return the default of each set of spellings, as the page writes it."""
    return {
        frozenset(action.option_strings): parser.get_default(action.dest)
        for action in parser._actions
        if action.help != argparse.SUPPRESS and action.dest != "help"
    }


def same(written, value, several):
    one, _, many = written.partition("; several GPUs: ")
    written = many if several and many else one
    if value is None or isinstance(value, bool):
        return written == {None: "none", False: "off", True: "on"}[value]
    if isinstance(value, (int, float)):
        return float(written) == value
    return written in (value, repr(value))


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_flag_is_documented_with_its_default(program):
    column, build = PROGRAMS[program]
    flags, page = actual(build()), documented(column)
    assert flags.keys() - page.keys() == set()
    several = "multiple" in program
    differ = {
        " ".join(sorted(names)): (page[names], value)
        for names, value in flags.items()
        if not same(page[names], value, several)
    }
    assert differ == {}


@pytest.mark.parametrize("column", (1, 2))
def test_every_documented_flag_exists(column):
    programs = [build for where, build in PROGRAMS.values() if where == column]
    known = set().union(*(actual(build()).keys() for build in programs))
    assert documented(column).keys() - known == set()


def test_every_row_has_a_meaning():
    assert [row for row in rows() if len(row) != len(HEADER) or not row[-1]] == []


def options(parser):
    """Return the flags of a program and of its subcommands, and the defaults of each."""
    found = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            parts = [options(part) for part in action.choices.values()]
            for names in set().union(*parts):
                found[names] = [value for part in parts for value in part.get(names, [])]
        elif action.option_strings and action.dest != "help":
            found[frozenset(action.option_strings)] = [action.default]
    return found


@pytest.mark.parametrize(
    ("page", "programs"),
    [
        ("docs/data.md", (show_events, sample_data)),
        ("docs/report.md", (report,)),
        ("docs/following.md", (compare,)),
    ],
)
def test_flags_of_the_programs_run_as_modules(page, programs):
    parsers = [program.build_parser() for program in programs]
    pages = [table[1:] for table in tables(page) if table[0][:2] == ["flag", "default"]]
    for parser, page in zip(parsers, pages, strict=True):
        written = {frozenset(re.findall(r"`(.*?)`", row[0])): row[1].split(", ") for row in page}
        flags = options(parser)
        assert written.keys() == flags.keys()
        for names, values in flags.items():
            assert all(map(same, written[names], values, [False] * len(values))), names
