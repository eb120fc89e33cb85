"""Text for terminals and logs: names from outside escaped, lists bounded, one line at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

_SHOWN = 8  # names in a list before it is cut
_LONGEST = 4000  # characters of a line before it is cut


def printable(text: str) -> str:
    r"""Return `text` with all characters that are not printable escaped, such as `\x1b` and `\n`.

    Names of files, classes and checkpoint keys may hold any character; unescaped, they could
    move the cursor, forge further lines, or be impossible to encode.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_line(text: str, file: TextIO | None = None) -> None:
    """Print `text` as one line, escaped by `printable` and cut if it is very long.

    The line is flushed; it goes to stdout by default.
    """
    line = printable(text)
    print(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}...", file=file, flush=True)


def listed(names: Sequence[str], shown: int = _SHOWN) -> str:
    """Return `names` separated by commas, at most `shown` of them and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")
