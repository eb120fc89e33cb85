"""Errors that a user can cause."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A mistake in a flag or a file: one line that names it and the remedy."""


class Stopped(Exception):
    """A signal asked a training to stop, which it did where it can go on; `status` tells which."""

    def __init__(self, line: str, status: int) -> None:
        super().__init__(line)
        self.status = status


def first_line(error: BaseException) -> str:
    """Return what `error` says, as far as it fits in a line."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


@contextmanager
def flag_errors(flag: str) -> Iterator[None]:
    """Turn a `ValueError` meanwhile into a `UserError`, about `flag` unless it names another."""
    try:
        yield
    except ValueError as error:
        line = " ".join(str(error).split())
        raise UserError(line if line.startswith("--") else f"{flag}: {line}") from error


@contextmanager
def warn_on_write_error(what: str) -> Iterator[None]:
    """Turn an error of the disk meanwhile into a warning, since `what` can be done without."""
    try:
        yield
    except (UserError, OSError) as error:
        print(f"warning: {what} could not be written: {error}", file=sys.stderr, flush=True)
