"""Recordings in AEDAT 2.0, decoded and encoded."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from utils.events.recording import SIZE, Events
from utils.system.errors import UserError

_WRAP = 1 << 32  # timestamps are stored modulo this many microseconds
_CHIP = re.compile(rb"#\s*AEChip:\s*(\S+)")
_BINARY = re.compile(rb"[^\t\r\n\x20-\xff]")  # bytes that no header line holds
_LAST_LINE = b"#End Of ASCII Header"


def decode_aedat2(content: bytes, source: str = "events") -> Events:
    """Return the events of an AEDAT 2.0 file's bytes, with wrapped timestamps unwrapped.

    After the header come big-endian pairs of uint32, address and microseconds. Address bits 0,
    1-7, 8-14 are polarity, x and y of a DVS128; higher bits mark special events and are ignored.
    Raises UserError naming `source` for another camera, a truncated body or no events.
    """
    start = _header_length(content)
    _check_chip(content[:start], source)
    body = len(content) - start
    if body % 8:
        raise UserError(
            f"{source}: {body} bytes after the header are no multiple of 8;"
            " the file is truncated, fetch or extract it again"
        )
    if not body:
        raise UserError(f"{source}: no events after the header")
    fields = np.frombuffer(content, np.uint8, offset=start).reshape(-1, 8)
    times = np.frombuffer(content, ">u4", offset=start)[1::2]
    return Events(
        t=_unwrap(times.astype(np.int64)),
        x=(SIZE - 1) - (fields[:, 3] >> 1),
        y=fields[:, 2] & 0x7F,
        p=(fields[:, 3] & 1) ^ 1,
        source=source,
    )


def encode_aedat2(events: Events, header: Sequence[str] = ()) -> bytes:
    """Return `events` as an AEDAT 2.0 file of a DVS128, the inverse of `decode_aedat2`.

    `header` adds comment lines. Timestamps are stored modulo 2^32.
    """
    lines = [
        "!AER-DAT2.0",
        " This is a raw AE data file - do not edit",
        " Data format is int32 address, int32 timestamp (8 bytes total), repeated for each event",
        " Timestamps tick is 1 us",
        " AEChip: ch.unizh.ini.jaer.chip.retina.DVS128",
        *(f" {line}" for line in header),
    ]
    body = np.zeros((len(events), 2), ">u4")
    fields = body.view(np.uint8).reshape(-1, 8)
    fields[:, 2] = events.y
    fields[:, 3] = ((SIZE - 1 - events.x) << 1) | (1 - events.p)
    body[:, 1] = events.t % _WRAP
    return "".join(f"#{line}\r\n" for line in lines).encode() + body.tobytes()


def _header_length(content: bytes) -> int:
    """Return how many bytes the leading lines take that start with `#` and hold text alone."""
    start = 0
    while content.startswith(b"#", start):
        end = content.find(b"\n", start) + 1 or len(content)
        line = content[start:end]
        if _BINARY.search(line):  # an address may start with the byte of a `#`
            break
        start = end
        if line.startswith(_LAST_LINE):
            break
    return start


def _check_chip(header: bytes, source: str) -> None:
    chip = _CHIP.search(header)
    if chip and not chip[1].rpartition(b".")[2].startswith((b"DVS128", b"Tmpdiff128")):
        name = chip[1].decode(errors="replace")
        raise UserError(f"{source}: recorded by {name}; only recordings of a DVS128 can be read")


def _unwrap(times: np.ndarray) -> np.ndarray:
    """Return unsigned 32-bit timestamps `(n,)` int64 with 2^32 added after each overflow.

    A fall by more than half the range is an overflow. A rise by as much leads back over the last
    overflow (an event that arrived late), or is a long pause where there was none.
    """
    steps = np.diff(times)
    overflows = (steps < -_WRAP // 2).astype(np.int64) - (steps > _WRAP // 2)
    if not overflows.any():
        return times
    count = np.concatenate([[0], np.cumsum(overflows)])
    return times + _WRAP * (count - np.minimum.accumulate(np.minimum(count, 0)))
