"""Decode and encode recordings of an ATIS camera, as N-MNIST and N-Caltech101 consist of."""

from __future__ import annotations

import numpy as np

from utils.events.recording import Events, unwrap
from utils.system.errors import UserError

N_MNIST = (34, 34)  # rows and columns
N_CALTECH101 = (180, 240)
_BYTES = 5  # of an event
_PERIOD = 1 << 23  # timestamps are stored modulo this many microseconds
_OVERFLOW_ROW = 240  # an "event" of this row says that time has advanced by the following
_OVERFLOW = 1 << 13


def decode_atis(
    content: bytes, source: str = "events", sensor: tuple[int, int] | None = None
) -> Events:
    """Return the events of an ATIS file's bytes, in the file's own orientation.

    Each event is 40 bits: x (8), y (8), polarity (1), microseconds (23), most significant first.
    `sensor` is the number of rows and columns, which the file does not tell; None takes the smaller
    of N_MNIST and N_CALTECH101 that holds all events. Raises UserError naming `source` for a
    truncated file, no events, or an event outside of the sensor.
    """
    if len(content) % _BYTES:
        raise UserError(
            f"{source}: truncated, its {len(content)} bytes are not a multiple of {_BYTES};"
            " download or extract it again"
        )
    fields = np.frombuffer(content, np.uint8).reshape(-1, _BYTES)
    x, y = fields[:, 0], fields[:, 1]
    high, middle, low = fields[:, 2:].astype(np.int64).T
    overflow = y == _OVERFLOW_ROW
    t = unwrap((high & 0x7F) << 16 | middle << 8 | low, _PERIOD) + _OVERFLOW * np.cumsum(overflow)
    chosen = ~overflow
    if not chosen.any():
        raise UserError(f"{source}: no events in this file")
    x, y = x[chosen], y[chosen]
    return Events(
        t=t[chosen],
        x=x,
        y=y,
        p=(fields[chosen, 2] >> 7),
        source=source,
        sensor=_checked_sensor(int(y.max()), int(x.max()), sensor, source),
    )


def encode_atis(events: Events) -> bytes:
    """Return `events` as an ATIS file, the inverse of `decode_atis`.

    Timestamps are stored modulo 2^23 microseconds.
    """
    fields = np.empty((len(events), _BYTES), np.uint8)
    fields[:, 0], fields[:, 1] = events.x, events.y
    t = events.t % _PERIOD
    fields[:, 2] = events.p << 7 | (t >> 16).astype(np.uint8)
    fields[:, 3], fields[:, 4] = t >> 8 & 0xFF, t & 0xFF
    return fields.tobytes()


def _checked_sensor(
    row: int, column: int, sensor: tuple[int, int] | None, source: str
) -> tuple[int, int]:
    """Return the sensor that holds events up to this row and column, or raise UserError."""
    candidates = [sensor] if sensor else [N_MNIST, N_CALTECH101]
    for rows, columns in candidates:
        if row < rows and column < columns:
            return rows, columns
    rows, columns = candidates[-1]
    raise UserError(
        f"{source}: an event at row {row} or column {column}, outside of {rows} rows and"
        f" {columns} columns; the file is damaged or from another camera"
    )
