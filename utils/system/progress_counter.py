"""A count of finished items: a bar on a terminal, about ten plain lines in a file or pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from progress.bar import Bar

from utils.system.text import print_line

Item = TypeVar("Item")
LINES = 10


class ProgressCounter:
    """Shows progress from `done` to `total` items; nothing if `quiet`."""

    def __init__(self, label: str, total: int, done: int = 0, quiet: bool = False) -> None:
        self.label, self.total, self.done, self.quiet = label, total, done, quiet
        self.bar = None
        if not quiet and sys.stdout.isatty():
            suffix = "%(percent)d%% of %(max)d, %(eta_td)s left"
            self.bar = Bar(label, max=total, index=done, suffix=suffix, file=sys.stdout)

    def __enter__(self) -> ProgressCounter:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar:
            self.bar.finish()

    def add(self, amount: int = 1) -> None:
        """Count `amount` more items as done."""
        before, self.done = self.done, self.done + amount
        if self.bar:
            self.bar.next(amount)
        elif not self.quiet and self._tenth(before) != self._tenth(self.done):
            print_line(f"{self.label} {self.done:,}/{self.total:,}")

    def _tenth(self, done: int) -> int:
        return done * LINES // max(self.total, 1)


def count_progress(
    items: Iterable[Item], label: str, total: int, quiet: bool = False
) -> Iterator[Item]:
    """Yield `items`, counting each as done when the consumer asks for the next."""
    with ProgressCounter(label, total, quiet=quiet) as counter:
        for item in items:
            yield item
            counter.add()
