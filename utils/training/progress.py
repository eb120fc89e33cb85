"""The progress of an epoch: a bar on a terminal, about ten plain lines in a file or pipe."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from progress.bar import Bar as PackageBar

from utils.distributed.world import World
from utils.training.metrics import Meter, Scores, ScoresCopy

LINES_PER_EPOCH = 10
SECONDS_BETWEEN_LINES = 2.0
SECONDS_BETWEEN_REDRAWS = 0.5
_NUMBERS_WIDTH = 80


class Bar:
    """Counts the steps over a loader and prints nothing, as on all ranks but the first."""

    def __init__(self, title: str, loader: Any) -> None:
        self.title, self.loader, self.total = title, loader, len(loader)
        self.index = 0
        self.started = self.drawn = time.perf_counter()
        self.requested: ScoresCopy | None = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, kind: type | None, *exception: object) -> None:
        if kind is None:
            self._draw_requested()
        self.close()

    def step(self, meter: Meter) -> Scores | None:
        """Count a step; return the scores if they were drawn, which those of a step before are.

        By then the device has sent them, so that the host does not wait.
        """
        scores = self._draw_requested()
        self.index += 1
        if self.due():
            self.requested = meter.copy_to_host()
            self.drawn = time.perf_counter()
        return scores

    def _draw_requested(self) -> Scores | None:
        requested, self.requested = self.requested, None
        if requested is None:
            return None
        scores = requested.read()
        self.draw(scores)
        return scores

    def due(self) -> bool:
        """Return whether the scores should be read now."""
        return False

    def draw(self, scores: Scores) -> None:
        """Show `scores`."""

    def close(self) -> None:
        """End the line of the bar."""

    @property
    def elapsed(self) -> float:
        """Seconds since the bar began, above 0."""
        return max(time.perf_counter() - self.started, 1e-9)

    @property
    def idle(self) -> float:
        """Seconds since the scores were last shown."""
        return time.perf_counter() - self.drawn

    @property
    def waiting(self) -> float:
        """Percentage of the time so far spent waiting for data."""
        return 100 * self.loader.waited / self.elapsed


BarFactory = Callable[[str, Any], Bar]


class PlainBar(Bar):
    """Prints a line at each tenth of the epoch but the last, after which a summary is printed.

    With `every`, prints a line every so many steps instead.
    """

    def __init__(self, title: str, loader: Any, every: int | None = None) -> None:
        super().__init__(title, loader)
        self.every = every

    def due(self) -> bool:
        if self.every:
            return self.index % self.every == 0
        tenth = self.index % -(-self.total // LINES_PER_EPOCH) == 0
        return tenth and self.index < self.total and self.idle >= SECONDS_BETWEEN_LINES

    def draw(self, scores: Scores) -> None:
        left = timedelta(seconds=round(self.elapsed * (self.total - self.index) / self.index))
        print(
            f"{self.title} {self.index}/{self.total}  ETA {left}  loss {scores.loss:.4f}  "
            f"top-1 {scores.top1:.2f} %  top-5 {scores.top5:.2f} %  data {self.waiting:.1f} %",
            flush=True,
        )


class TerminalBar(Bar):
    """Redraws one line twice a second."""

    def __init__(self, title: str, loader: Any) -> None:
        super().__init__(title, loader)
        room = shutil.get_terminal_size().columns - len(title) - _NUMBERS_WIDTH
        self.bar = _Numbers(title, file=sys.stdout, max=self.total, width=min(32, max(room, 1)))

    def due(self) -> bool:
        return self.index == self.total or self.idle >= SECONDS_BETWEEN_REDRAWS

    def draw(self, scores: Scores) -> None:
        self.bar.scores, self.bar.waiting = scores, self.waiting
        self.bar.goto(self.index)

    def close(self) -> None:
        self.bar.finish()


class _Numbers(PackageBar):
    scores = Scores(0.0, 0.0, 0.0, 0)
    waiting = 0.0
    suffix = "%(index)d/%(max)d ETA %(eta_td)s %(numbers)s"

    def writeln(self, line: str) -> None:
        # A line that wraps would not be overwritten by the next one.
        super().writeln(line[: shutil.get_terminal_size().columns - 1])

    @property
    def numbers(self) -> str:
        s = self.scores
        return f"loss {s.loss:.4f} top-1 {s.top1:.2f}% top-5 {s.top5:.2f}% data {self.waiting:.1f}%"


def bar_factory(world: World, every: int | None = None) -> BarFactory:
    """Return the kind of bar for this rank and for a terminal or a file.

    In a file, a line is printed `every` so many steps, or about ten times per epoch.
    """
    if not world.is_main:
        return Bar
    return TerminalBar if sys.stdout.isatty() else partial(PlainBar, every=every)
