"""Errors a user can cause, and how an entry script reports them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A mistake in a flag or a file: one line that names it and the remedy."""


@contextmanager
def flag_errors(flag: str) -> Iterator[None]:
    """Turn a `ValueError` meanwhile into a `UserError`, about `flag` unless it names another."""
    try:
        yield
    except ValueError as error:
        line = str(error)
        raise UserError(line if line.startswith("--") else f"{flag}: {line}") from error


def run(main: Callable[[], None]) -> None:
    """Call `main`; a `UserError` ends the program with its line on stderr and status 2."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
