"""Text for terminals and logs: names from outside escaped, lists bounded, one line at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

_SHOWN = 8  # names in a list before it is cut


def printable(text: str) -> str:
    r"""Return `text` with all characters that are not printable escaped, such as `\x1b` and `\n`.

    Names of files, classes and checkpoint keys may hold any character; unescaped, they could
    move the cursor, forge further lines, or be impossible to encode.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_line(text: str, file: TextIO | None = None) -> None:
    """Print `text` as one line, escaped by `printable`, and flush it; to stdout by default."""
    print(printable(text), file=file, flush=True)


def listed(names: Sequence[str], shown: int = _SHOWN) -> str:
    """Return `names` separated by commas, at most `shown` of them and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")
