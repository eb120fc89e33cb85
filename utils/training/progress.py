"""The progress of an epoch: a bar on a terminal, about ten plain lines in a file or pipe."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from progress.bar import Bar as PackageBar

from utils.distributed.world import World
from utils.training.metrics import Meter, Scores, ScoresCopy

LINES_PER_EPOCH = 10
SECONDS_BETWEEN_LINES = 2.0
SECONDS_BETWEEN_REDRAWS = 0.5
_BAR_WIDTH = 8, 32  # characters at least and at most


class RunClock:
    """Estimates the time left of a run of `epochs` epochs from the duration of the last one."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.after = epochs, epochs
        self.share, self.duration, self.started = 1.0, 0.0, time.perf_counter()

    def start_epoch(self, epoch: int, share: float = 1.0) -> None:
        """Begin the epoch `epoch` (from 0), of which the `share` is still to be trained."""
        self.after, self.share, self.started = self.epochs - epoch - 1, share, time.perf_counter()

    def end_epoch(self) -> None:
        """Note the duration of the epoch."""
        self.duration = (time.perf_counter() - self.started) / max(self.share, 1e-9)

    def left(self, phase: float) -> float:
        """Return the seconds left of the run, where `phase` are left of the present phase."""
        passed = time.perf_counter() - self.started
        epoch = self.duration or (passed + phase) / max(self.share, 1e-9)
        return max(phase, epoch * self.share - passed) + self.after * epoch


class Bar:
    """Counts the steps over a loader and prints nothing, as on all ranks but the first."""

    def __init__(self, title: str, loader: Any, clock: RunClock | None = None) -> None:
        self.title, self.loader, self.total, self.clock = title, loader, len(loader), clock
        self.index = self.first = 0
        self.started = self.drawn = time.perf_counter()
        self.requested: ScoresCopy | None = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, kind: type | None, *exception: object) -> None:
        if kind is None:
            self._draw_requested()
        self.close()

    def begin_at(self, index: int) -> None:
        """Count on from the step `index`, where a run was resumed."""
        self.index = self.first = index

    def step(self, meter: Meter) -> Scores | None:
        """Count a step; return the scores if the bar was drawn: those of an earlier step.

        The device has sent these by then, so that the host does not wait.
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

    @property
    def left(self) -> float:
        """Estimated seconds left of the steps."""
        return self.elapsed * (self.total - self.index) / max(self.index - self.first, 1)

    @property
    def run_left(self) -> str:
        """The estimated time left of the whole run, empty for a phase that is not of a run."""
        return f" run {clock_time(self.clock.left(self.left))}" if self.clock else ""


def clock_time(seconds: float) -> str:
    """Return a duration in the form 0:07, 1:02:03 or 3d 04:05 (days, hours, minutes)."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days}d {h:02}:{m:02}"
    return f"{h}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"


BarFactory = Callable[..., Bar]  # of a title, a loader and, within a run, its clock


class PlainBar(Bar):
    """Prints a line at each tenth of the epoch but the last, after which a summary is printed.

    With `every`, prints a line every so many steps instead.
    """

    def __init__(
        self, title: str, loader: Any, clock: RunClock | None = None, every: int | None = None
    ) -> None:
        super().__init__(title, loader, clock)
        self.every = every

    def due(self) -> bool:
        if self.every:
            return self.index % self.every == 0
        tenth = self.index % -(-self.total // LINES_PER_EPOCH) == 0
        return tenth and self.index < self.total and self.idle >= SECONDS_BETWEEN_LINES

    def draw(self, scores: Scores) -> None:
        print(
            f"{self.title} {self.index}/{self.total}  ETA {clock_time(self.left)}{self.run_left}  "
            f"loss {scores.loss:.4f}  top-1 {scores.top1:.2f} %  top-5 {scores.top5:.2f} %  "
            f"data {self.waiting:.1f} %",
            flush=True,
        )


class TerminalBar(Bar):
    """Redraws one line twice a second."""

    def __init__(self, title: str, loader: Any, clock: RunClock | None = None) -> None:
        super().__init__(title, loader, clock)
        self.bar = _Line(title, file=sys.stdout, max=self.total)

    def due(self) -> bool:
        return self.index == self.total or self.idle >= SECONDS_BETWEEN_REDRAWS

    def draw(self, scores: Scores) -> None:
        # " |" and "| " enclose the bar; the last column stays free, or the line would wrap.
        room = shutil.get_terminal_size().columns - len(self.title) - 5
        least, most = _BAR_WIDTH
        choices = self._numbers(scores)
        numbers = next((text for text in choices if len(text) + least <= room), choices[-1])
        self.bar.numbers, self.bar.width = numbers, min(most, max(1, room - len(numbers)))
        self.bar.goto(self.index)

    def close(self) -> None:
        self.bar.finish()

    def _numbers(self, scores: Scores) -> list[str]:
        """Return what follows the bar, from the longest form to the shortest."""
        steps = f"{self.index}/{self.total} ETA {clock_time(self.left)}"
        short = f"{steps}{self.run_left} loss {scores.loss:.3f} {scores.top1:.1f}%"
        long = f"{steps}{self.run_left} loss {scores.loss:.4f} top-1 {scores.top1:.2f}%"
        more = f"{long} top-5 {scores.top5:.2f}% data {self.waiting:.1f}%"
        return [more, long, short, f"{self.index}/{self.total} loss {scores.loss:.3f}"]


class _Line(PackageBar):
    numbers = ""
    suffix = "%(numbers)s"

    def writeln(self, line: str) -> None:
        # A line that wraps would not be overwritten by the next one.
        super().writeln(line[: shutil.get_terminal_size().columns - 1])


def bar_factory(world: World, every: int | None = None) -> BarFactory:
    """Return the kind of bar for this rank and for a terminal or a file.

    In a file, a line is printed `every` so many steps, or about ten times per epoch.
    """
    if not world.is_main:
        return Bar
    return TerminalBar if sys.stdout.isatty() else partial(PlainBar, every=every)
