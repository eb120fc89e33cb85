"""Errors a user can cause, and how an entry script reports them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from utils.system.signals import ignore_requests_to_save


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
def excused(what: str) -> Iterator[None]:
    """Turn an error of the disk meanwhile into a warning, since `what` can be done without."""
    try:
        yield
    except (UserError, OSError) as error:
        print(f"warning: {what} could not be written: {error}", file=sys.stderr, flush=True)


def run(main: Callable[[], None]) -> None:
    """Call `main`; a `UserError` ends the program with its line on stderr and status 2.

    A stop by a signal ends it with 128 and the signal's number, as shells report signals.
    """
    ignore_requests_to_save()
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stop:
        if str(stop):  # of several processes one tells
            print(stop, file=sys.stderr)
        sys.exit(stop.status)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
