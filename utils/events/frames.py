"""Event recordings as frames: counts of events per segment, polarity and pixel."""

from __future__ import annotations

import numpy as np

from utils.events.recording import Events
from utils.system.errors import UserError

SPLITS = ("number", "time")
NORMALIZATIONS = (None, "frequency", "max", "sum", "norm")
_SMALLEST_DIVISOR = 1e-5


def to_frames(
    events: Events, timesteps: int, split_by: str = "number", normalization: str | None = None
) -> np.ndarray:
    """Return frames `(T, 2, H, W)`, channel p, index `[y, x]`: int64 counts, or float64.

    H and W are the rows and columns of the sensor. `split_by` is `number` (segments with equal
    numbers of events) or `time` (of equal duration), `normalization` one of `NORMALIZATIONS`.
    Raises ValueError for other values, and UserError naming the recording if a segment would be
    empty or, by time, if timestamps decrease.
    """
    if split_by not in SPLITS or normalization not in NORMALIZATIONS:
        raise ValueError(f"split_by {split_by!r}, normalization {normalization!r}: unknown")
    if len(events) < timesteps:
        raise UserError(
            f"{events.source}: {len(events)} events for {timesteps} frames;"
            " lower --timesteps or remove the recording"
        )
    bounds = _bounds_by_time if split_by == "time" else _bounds_by_number
    edges = bounds(events, timesteps)
    frames = count_events(events, edges)
    if normalization == "frequency":
        durations = _durations_by_time if split_by == "time" else _durations_by_number
        return frames / np.maximum(durations(events, edges), 1)[:, None, None, None]
    return normalize(frames, normalization)


def count_events(events: Events, edges: np.ndarray) -> np.ndarray:
    """Return int64 counts `(T, 2, H, W)` of segments `edges[j]:edges[j + 1]`, `edges` `(T+1,)`.

    One pass over the events: each is counted in one cell among all segments, polarities and pixels.
    """
    timesteps = len(edges) - 1
    rows, columns = events.sensor
    cell = np.repeat(np.arange(timesteps) * (2 * rows * columns), np.diff(edges))
    cell += events.p.astype(np.intp) * (rows * columns)
    cell += events.y.astype(np.intp) * columns
    cell += events.x
    counts = np.bincount(cell, minlength=timesteps * 2 * rows * columns)
    return counts.reshape(timesteps, 2, rows, columns)


def normalize(frames: np.ndarray, normalization: str | None) -> np.ndarray:
    """Return `frames` `(T, 2, H, W)`, normalised separately per frame and polarity.

    `max` divides by the maximum, `sum` by the sum, `norm` shifts and scales to mean 0 and sample
    variance 1; divisors are at least 1e-5. None and `frequency` change nothing: the latter needs
    the timestamps, so `to_frames` applies it.
    """
    if normalization in (None, "frequency"):
        return frames
    if normalization == "norm":
        frames = frames - frames.mean((2, 3), keepdims=True)
        divisor = frames.std((2, 3), ddof=1, keepdims=True)
    else:
        divisor = getattr(frames, normalization)((2, 3), keepdims=True)
    return frames / np.maximum(divisor, _SMALLEST_DIVISOR)


def _bounds_by_number(events: Events, timesteps: int) -> np.ndarray:
    """Return edges `(T+1,)` of segments of `n // T` events; the last takes the remainder."""
    edges = np.arange(timesteps + 1) * (len(events) // timesteps)
    edges[-1] = len(events)
    return edges


def _bounds_by_time(events: Events, timesteps: int) -> np.ndarray:
    """Return edges `(T+1,)` of segments of `(t_last - t_0) // T` microseconds."""
    if events.backward_steps:
        raise UserError(
            f"{events.source}: {events.backward_steps} timestamps step backwards;"
            " split by number instead"
        )
    elapsed = events.t - events.t[0]
    starts = np.arange(timesteps) * (elapsed[-1] // timesteps)
    edges = np.append(np.searchsorted(elapsed, starts), len(events))
    empty = np.flatnonzero(np.diff(edges) == 0)
    if len(empty):
        raise UserError(
            f"{events.source}: no event in segment {empty[0] + 1} of {timesteps} by time;"
            " lower --timesteps or split by number"
        )
    return edges


def _durations_by_number(events: Events, edges: np.ndarray) -> np.ndarray:
    """Return the time in microseconds `(T,)` from each segment's first event to the next one's."""
    starts = events.t[edges[:-1]]
    return np.diff(starts, append=events.t[-1])


def _durations_by_time(events: Events, edges: np.ndarray) -> np.ndarray:
    """Return the durations in microseconds `(T,)`: equal, with the remainder in the last one."""
    timesteps = len(edges) - 1
    total = events.t[-1] - events.t[0]
    durations = np.full(timesteps, total // timesteps)
    durations[-1] += total % timesteps
    return durations
