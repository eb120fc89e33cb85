"""A recording of an event camera in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

SIZE = 128  # pixels along each side of a DVS128
DVS128 = (SIZE, SIZE)


@dataclass(frozen=True)
class Events:
    """One recording, oriented as in the published frames.

    `t` `(n,)` int64, microseconds; `x`, `y` `(n,)` uint8, column and row; `p` `(n,)` uint8, 1 where
    the intensity increased. `source` names the recording in messages; `description` is empty unless
    the recording is simulated. `sensor` is the number of rows and columns of the camera.
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    source: str = "events"
    description: str = ""
    sensor: tuple[int, int] = DVS128

    def __len__(self) -> int:
        return len(self.t)

    @property
    def backward_steps(self) -> int:
        """The number of timestamps that are earlier than the previous one."""
        return int(np.count_nonzero(np.diff(self.t) < 0))

    def between(self, start: int, stop: int) -> Events:
        """Return the events with `start <= t < stop`, in microseconds."""
        chosen = (self.t >= start) & (self.t < stop)
        fields = {name: getattr(self, name)[chosen] for name in "txyp"}
        return replace(self, **fields, source=f"{self.source}, {start} to {stop} us")

    def binned(self, size: int) -> Events:
        """Return the events on a square sensor whose pixels are `size` x `size` of this one's.

        This sensor lies in the middle of the square; the longer side decides the square's.
        """
        side = -(-max(self.sensor) // size)
        top, left = ((side * size - length) // 2 for length in self.sensor)
        y, x = (self.y.astype(int) + top) // size, (self.x.astype(int) + left) // size
        return replace(self, x=x.astype(np.uint8), y=y.astype(np.uint8), sensor=(side, side))


def unwrap(times: np.ndarray, period: int) -> np.ndarray:
    """Return timestamps `(n,)` int64 with `period` added after each overflow.

    A decrease by more than half the period is an overflow. An increase by more than that is an
    event from before the last overflow that arrived late, or a long pause if there was no overflow.
    """
    steps = np.diff(times)
    overflows = (steps < -period // 2).astype(np.int64) - (steps > period // 2)
    if not overflows.any():
        return times
    count = np.concatenate([[0], np.cumsum(overflows)])
    return times + period * (count - np.minimum.accumulate(np.minimum(count, 0)))
