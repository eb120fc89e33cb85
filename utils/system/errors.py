"""Errors that a user can cause, each reported in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from utils.system.text import print_line


class UserError(Exception):
    """A wrong flag, file or environment: one line that names it and says what to do."""


class Stopped(Exception):
    """The program was asked to stop, with this exit `status`; an empty `line` prints nothing."""

    def __init__(self, line: str, status: int) -> None:
        super().__init__(line)
        self.status = status


def first_line(error: BaseException) -> str:
    """Return the first line of the message of `error`, or its type's name if it has none."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


@contextmanager
def flag_errors(flag: str) -> Iterator[None]:
    """Turn a ValueError inside the context into a UserError.

    The error is about `flag`, unless its message begins with another one.
    """
    try:
        yield
    except ValueError as error:
        line = " ".join(str(error).split())
        raise UserError(line if line.startswith("--") else f"{flag}: {line}") from error


@contextmanager
def warn_on_write_error(what: str) -> Iterator[None]:
    """Turn a failed write inside the context into a warning: a run can continue without `what`."""
    try:
        yield
    except (UserError, OSError) as error:
        print_line(f"warning: {what} could not be written: {error}", sys.stderr)
