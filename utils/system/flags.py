"""Command-line flags: a parser that reports errors in one line, and types with a range."""

from __future__ import annotations

import argparse
import copy
import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from utils.system.errors import UserError

LARGEST = {int: 2**31, float: 1e30}  # beyond these a flag's value overflows somewhere


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds to each flag's help its default, if it has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or action.default == "":
            return action.help
        return super()._get_help_string(action)


class FlagParser(argparse.ArgumentParser):
    """An ArgumentParser that shows defaults, and raises UserError for a wrong command line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": HelpFormatter} | options)

    def parse_args(self, args: Sequence[str] | None = None, namespace=None) -> argparse.Namespace:
        """Return the flags; `given` is the set of those on the command line, without defaults."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._suggestion(unknown)}")
        parsed.given = self._given(args)
        return parsed

    def _given(self, args: Sequence[str] | None) -> frozenset[str]:
        parser = copy.deepcopy(self)
        parser._defaults.clear()
        for action in parser._actions:
            action.default = argparse.SUPPRESS
        return frozenset(vars(parser.parse_known_args(args)[0]))

    def _suggestion(self, unknown: Sequence[str]) -> str:
        """Return the known flag that is most like the first unknown one, if one is."""
        flags = [argument.split("=")[0] for argument in unknown if argument.startswith("--")]
        near = difflib.get_close_matches(flags[0], self._option_string_actions, 1) if flags else []
        return f"; did you mean {near[0]}?" if near else ""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (--help lists the flags)")


def at_least(
    minimum: float, kind: type = int, maximum: float | None = None
) -> Callable[[str], float]:
    """Return a flag type: a finite `kind` of at least `minimum`."""
    return _ranged(kind, lambda value: value >= minimum, f"at least {minimum}", maximum)


def between(minimum: int, maximum: int) -> Callable[[str], float]:
    """Return a flag type: an integer from `minimum` to `maximum`, both included."""
    words = f"from {minimum} to {maximum}"
    return _ranged(int, lambda value: minimum <= value <= maximum, words)


def above(
    minimum: float, kind: type = float, maximum: float | None = None
) -> Callable[[str], float]:
    """Return a flag type: a finite `kind` greater than `minimum`."""
    return _ranged(kind, lambda value: value > minimum, f"greater than {minimum}", maximum)


def bounded(kind: type, maximum: float | None = None) -> Callable[[str], float]:
    """Return a flag type: a finite `kind` between `-maximum` and `maximum`, else `LARGEST`."""
    return _ranged(kind, lambda value: True, "finite", maximum)


def fraction(text: str) -> float:
    """Return the number `text`, which must lie in [0, 1), as for momentum and dropout."""
    return _ranged(float, lambda value: 0 <= value < 1, "at least 0 and below 1")(text)


def one_of(*names: str) -> Callable[[str], str]:
    """Return a flag type: one of `names`, compared without case and returned as spelled there."""
    known = {name.lower(): name for name in names}

    def parse(text: str) -> str:
        if text.lower() not in known:
            raise argparse.ArgumentTypeError(f"unknown {text!r}; known: {', '.join(names)}")
        return known[text.lower()]

    return parse


def _ranged(
    kind: type, accepts: Callable[[float], bool], wanted: str, maximum: float | None = None
) -> Callable[[str], float]:
    largest = LARGEST[kind] if maximum is None else maximum

    def parse(text: str) -> float:
        value = kind(text)
        if (kind is float and not math.isfinite(value)) or not accepts(value):
            raise argparse.ArgumentTypeError(f"must be {wanted}, got {text}")
        if abs(value) > largest:
            raise argparse.ArgumentTypeError(f"must be at most {largest:g} in size, got {text}")
        return value

    parse.__name__ = kind.__name__  # argparse names the type of a value it cannot convert
    return parse


def command_line(parser: argparse.ArgumentParser, values: Mapping[str, Any]) -> list[str]:
    """Return the arguments that give `parser` these values of its flags, by destination.

    Values of other names are left out, and so are None and a switch that is off. The arguments are
    not checked: parsing them does that.
    """
    arguments: list[str] = []
    for action in parser._actions:
        value = values.get(action.dest)
        if not action.option_strings or value is None or value is False:
            continue
        flag = max(action.option_strings, key=len)
        if action.nargs == 0:
            arguments += [flag]
        elif isinstance(value, (list, tuple)):
            arguments += [flag, *map(str, value)]
        else:
            arguments += [f"{flag}={value}"]
    return arguments
