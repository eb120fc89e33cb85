"""A count of finished work: a bar on a terminal, about ten plain lines in a file or pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from progress.bar import Bar

Item = TypeVar("Item")
LINES = 10


class Tally:
    """Counts from `done` to `total`; `quiet` shows nothing."""

    def __init__(self, label: str, total: int, done: int = 0, quiet: bool = False) -> None:
        self.label, self.total, self.done, self.quiet = label, total, done, quiet
        self.bar = None
        if not quiet and sys.stdout.isatty():
            suffix = "%(percent)d%% of %(max)d, %(eta_td)s left"
            self.bar = Bar(label, max=total, index=done, suffix=suffix, file=sys.stdout)

    def __enter__(self) -> Tally:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar:
            self.bar.finish()

    def add(self, amount: int = 1) -> None:
        """Count `amount` more as done."""
        before, self.done = self.done, self.done + amount
        if self.bar:
            self.bar.next(amount)
        elif not self.quiet and self._tenth(before) != self._tenth(self.done):
            print(f"{self.label} {self.done:,}/{self.total:,}", flush=True)

    def _tenth(self, done: int) -> int:
        return done * LINES // max(self.total, 1)


def tally(items: Iterable[Item], label: str, total: int, quiet: bool = False) -> Iterator[Item]:
    """Pass `items` on, counting each once the consumer asks for the next."""
    with Tally(label, total, quiet=quiet) as count:
        for item in items:
            yield item
            count.add()
