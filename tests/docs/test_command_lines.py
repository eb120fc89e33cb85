"""Command lines in the Markdown pages are ones that the programs take."""

import re
import shlex

import pytest

from cifar.options import build_parser as cifar_parser
from imagenet.options import build_parser as imagenet_parser
from tests.docs.pages import PAGES, ROOT, code_blocks
from utils import compare, convert, export, report, sample_data, show_events
from utils.runs import config_file

PARSERS = {
    "cifar/main_single_gpu.py": lambda: cifar_parser(multi=False),
    "cifar/main_multiple_gpus.py": lambda: cifar_parser(multi=True),
    "imagenet/main.py": imagenet_parser,
    "utils.compare": compare.build_parser,
    "utils.convert": convert.build_parser,
    "utils.export": export.build_parser,
    "utils.report": report.build_parser,
    "utils.sample_data": sample_data.build_parser,
    "utils.show_events": show_events.build_parser,
}


def commands(page):
    """Return the words of each command in the page's bash blocks, variables replaced."""
    found, variables = [], {}
    for block in code_blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            if assigned := re.fullmatch(r'(\w+)="([^"$]*)"', line):
                variables[assigned[1]] = assigned[2]
            for name, value in variables.items():
                line = line.replace(f"${name}", value)
            found.append(shlex.split(line, comments=True))
    return [words for words in found if words]


def programs():
    """Return each use of a program in the pages: page, program, its arguments."""
    return [
        (page, word, words[place + 1 :])
        for page in PAGES
        for words in commands(page)
        for place, word in enumerate(words)
        if word in PARSERS
    ]


@pytest.mark.parametrize(
    ("page", "program", "arguments"), programs(), ids=lambda value: str(value)[:40]
)
def test_a_command_line_has_only_flags_that_exist(page, program, arguments, monkeypatch):
    monkeypatch.setattr(config_file, "_read_file", lambda path: {})  # of --config, not there
    PARSERS[program]().parse_args([word for word in arguments if word != "..."])


def test_every_file_that_a_command_runs_exists():
    named = {word for page in PAGES for words in commands(page) for word in words}
    scripts = {word for word in named if re.fullmatch(r"(\./)?[\w./-]+\.(py|sh)", word)}
    own = {word for word in scripts if not word.startswith("my_")}
    assert {word for word in own if not (ROOT / word).is_file()} == set()
    assert {"./quickstart.sh", "cifar/main_single_gpu.py"} <= own


def test_the_file_of_flags_on_the_page_is_taken(tmp_path):
    pytest.importorskip("yaml", reason="requirements-extras.txt is not installed")
    (block,) = code_blocks("docs/commands.md", "yaml")
    (tmp_path / "digits.yaml").write_text(block)
    args = cifar_parser(multi=False).parse_args(["--config", str(tmp_path / "digits.yaml")])
    assert args.dataset == "digits" and args.nesterov
