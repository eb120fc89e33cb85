"""A recording of a DVS128 event camera in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SIZE = 128  # pixels along each side of the sensor


@dataclass(frozen=True)
class Events:
    """One recording, oriented as in the published frames.

    `t` `(n,)` int64, microseconds; `x`, `y` `(n,)` uint8, column and row; `p` `(n,)` uint8, 1 where
    the intensity increased. `source` names the recording in messages; `description` is empty unless
    the recording is simulated.
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    source: str = "events"
    description: str = ""

    def __len__(self) -> int:
        return len(self.t)

    @property
    def backward_steps(self) -> int:
        """The number of timestamps that are earlier than the previous one."""
        return int(np.count_nonzero(np.diff(self.t) < 0))
