"""Flags in a file: YAML, JSON, or the record of a run."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from utils.system.errors import UserError
from utils.system.flags import FlagParser, command_line
from utils.system.regular_file import open_regular

_MOST_BYTES = 2**22
_YAML_MISSING = "YAML needs the package PyYAML: pip install PyYAML; JSON needs none"
_YAML_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_OF_A_PROCESS = ("local_rank", "given")  # recorded arguments that say nothing about the run
_CODE = "imports"


class ConfigParser(FlagParser):
    """A `FlagParser` with `--config FILE`: flags that hold where the command line has none."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_argument(
            "--config",
            metavar="FILE",
            help="YAML or JSON file of flags, or the .json record of a run; the command line wins",
        )

    def parse_args(self, args: Sequence[str] | None = None, namespace=None) -> Namespace:
        """Return the flags of the command line and of the file; `given` are those of both.

        Raises `UserError` for a wrong flag in either. The file's name is not among the flags.
        """
        typed = list(sys.argv[1:] if args is None else args)
        parsed = super().parse_args(typed, namespace)
        if parsed.config is not None:
            arguments = self._read(parsed.config, parsed.given)
            parsed = super().parse_args([*arguments, *typed], namespace)
            parsed.given -= {"config"}
        del parsed.config
        return parsed

    def _read(self, file: str, given: frozenset[str]) -> list[str]:
        """Return the arguments that a file stands for, without flags that are `given`."""
        try:
            values = _values(self, _read_file(Path(file)))
            arguments = command_line(self, {k: v for k, v in values.items() if k not in given})
            super().parse_args(arguments)
        except (UserError, ValueError) as error:
            raise UserError(f"--config {file}: {error}") from error
        if values.get(_CODE) and _CODE not in given:
            raise UserError(
                f"--config {file}: code is run only when the command line names it: pass --import "
                "to run the code"
            )
        return arguments


def _read_file(path: Path) -> Any:
    """Return the content of a file; raises ValueError for one that cannot be read."""
    kind = path.suffix.lower()
    if kind not in (".json", ".yaml", ".yml"):
        raise ValueError("name a .yaml, .yml or .json file")
    try:
        with open_regular(path, _MOST_BYTES) as file:
            text = file.read().decode()
    except OSError as error:
        raise ValueError(error.strerror) from error
    except UnicodeDecodeError as error:
        raise ValueError("not a text file in UTF-8") from error
    try:
        return json.loads(text, object_pairs_hook=_unique) if kind == ".json" else _yaml(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: not JSON ({error.msg})") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _yaml(text: str) -> Any:
    """Return a YAML document; scalars are text but for true, false and null, in any version.

    In YAML 1.1, which PyYAML reads, `compile: off` would be false and `1e-3` a word.
    """
    try:
        import yaml
    except ImportError as error:
        raise ValueError(_YAML_MISSING) from error
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{line}not YAML ({error.problem or error.context})") from error
    except yaml.YAMLError as error:
        raise ValueError("not YAML") from error
    if isinstance(node, yaml.MappingNode):
        return _unique((_content(key), _content(value)) for key, value in node.value)
    return node and _content(node)


def _content(node: Any) -> Any:
    """Return what a node of YAML holds: a scalar, a list of scalars, or a dict for a mapping."""
    if node.id == "mapping":
        return {}
    if node.id == "sequence":
        return [_content(entry) if entry.id == "scalar" else {} for entry in node.value]
    plain = node.style is None  # not quoted
    return _YAML_WORDS.get(node.value.lower(), node.value) if plain else node.value


def _unique(pairs: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    """Return a dict of `pairs`; raises ValueError for a key that is given twice or is not text."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if not isinstance(key, str):
            raise ValueError(f"{key}: not the name of a flag")
        if key in found:
            raise ValueError(f"{key} is given twice")
        found[key] = value
    return found


def _values(parser: FlagParser, content: Any) -> dict[str, Any]:
    """Return the value of each flag by destination; raises ValueError for anything but flags."""
    if isinstance(content, list):
        content = _recorded(parser, content)
    if not isinstance(content, dict):
        raise ValueError("neither flags with their values nor the record of a run")
    actions = _actions(parser)
    values: dict[str, Any] = {}
    for key, value in content.items():
        action = actions.get(_normalised(key))
        if action is None:
            (nearest,) = difflib.get_close_matches(_normalised(key), actions, 1, cutoff=0)
            raise ValueError(f"unknown flag {key[:80]}; the nearest is {nearest}")
        if action.dest in values:
            raise ValueError(f"{key} is given twice, under different names")
        _check_kind(key, action, value)
        values[action.dest] = value
    return values


def _actions(parser: FlagParser) -> dict[str, argparse.Action]:
    """Return the flags of `parser` by each of their names, and by their destination."""
    own = [action for action in parser._actions if action.dest not in ("help", "config")]
    spelled = {_normalised(name): a for a in own for name in (*a.option_strings, a.dest)}
    return spelled


def _normalised(name: str) -> str:
    return name.lstrip("-").replace("-", "_")


def _check_kind(key: str, action: argparse.Action, value: Any) -> None:
    """Raise ValueError for a `value` that no command line could give to the flag."""
    if value is None:
        return
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise ValueError(f"{key}: must be true or false, got {value}")
        return
    several = isinstance(value, list)
    if several and action.nargs is None:
        raise ValueError(f"{key}: takes one value, got a list")
    entries = value if several else [value]
    if any(isinstance(entry, (bool, list, dict, type(None))) for entry in entries):
        raise ValueError(f"{key}: takes {'values' if several else 'a value'}, got {value}")


def _recorded(parser: FlagParser, entries: list[Any]) -> dict[str, Any]:
    """Return the flags of the run that a record describes.

    They are those of its last start, with the seed that was drawn and without `--resume`, unless
    the run itself began from the checkpoint of another one. A flag that `parser` lacks is left out
    where it was not used.
    """
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("neither flags with their values nor the record of a run")
    first, last = entries[0], entries[-1]
    if not isinstance(first.get("args"), dict) or not isinstance(last.get("args"), dict):
        raise ValueError("this record holds no flags: it was written by an earlier version")
    resume = first["args"].get("resume", "")
    own = {"manualSeed": last.get("manualSeed"), "resume": "" if resume == "auto" else resume}
    recorded = {k: v for k, v in last["args"].items() if k not in _OF_A_PROCESS} | own
    known = _actions(parser)
    unused = (None, False, "")
    return {
        key: value
        for key, value in recorded.items()
        if _normalised(key) in known or value not in (*unused, parser.get_default(key))
    }
