"""Decode and encode recordings in AEDAT 2.0."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from utils.events.recording import SIZE, Events, unwrap
from utils.system.errors import UserError

_WRAP = 1 << 32  # timestamps are stored modulo this many microseconds
_CHIP = re.compile(rb"#\s*AEChip:\s*(\S+)")
_BINARY = re.compile(rb"[^\t\r\n\x20-\xff]")  # bytes that are not in a header line
_DESCRIPTION = re.compile(rb"# (simulated: [^\r\n]*)")
_LAST_LINE = b"#End Of ASCII Header"


def decode_aedat2(content: bytes, source: str = "events") -> Events:
    """Return the events of an AEDAT 2.0 file's bytes, with wrapped timestamps unwrapped.

    The header is followed by big-endian pairs of uint32: address and microseconds. Address bits
    0, 1-7 and 8-14 are polarity, x and y of a DVS128; higher bits mark special events and are
    ignored. Raises UserError naming `source` for another camera, a truncated body or no events.
    """
    start = _header_length(content)
    _check_chip(content[:start], source)
    body = len(content) - start
    if body % 8:
        raise UserError(
            f"{source}: truncated, the {body} bytes after the header are not a multiple of 8;"
            " download or extract it again"
        )
    if not body:
        raise UserError(f"{source}: no events after the header")
    description = _DESCRIPTION.search(content[:start])
    fields = np.frombuffer(content, np.uint8, offset=start).reshape(-1, 8)
    times = np.frombuffer(content, ">u4", offset=start)[1::2]
    return Events(
        t=unwrap(times.astype(np.int64), _WRAP),
        x=(SIZE - 1) - (fields[:, 3] >> 1),
        y=fields[:, 2] & 0x7F,
        p=(fields[:, 3] & 1) ^ 1,
        source=source,
        description=description[1].decode(errors="replace") if description else "",
    )


def encode_aedat2(events: Events, header: Sequence[str] = ()) -> bytes:
    """Return `events` as an AEDAT 2.0 file of a DVS128, the inverse of `decode_aedat2`.

    The lines `header` are added to the header. Timestamps are stored modulo 2^32.
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
    """Return the length in bytes of the leading lines that start with `#` and contain only text."""
    start = 0
    while content.startswith(b"#", start):
        end = content.find(b"\n", start) + 1 or len(content)
        line = content[start:end]
        if _BINARY.search(line):  # the first address may begin with the byte of a `#`
            break
        start = end
        if line.startswith(_LAST_LINE):
            break
    return start


def _check_chip(header: bytes, source: str) -> None:
    """Raise UserError if the header names another camera than a DVS128."""
    chip = _CHIP.search(header)
    if chip and not chip[1].rpartition(b".")[2].startswith((b"DVS128", b"Tmpdiff128")):
        name = chip[1].decode(errors="replace")
        raise UserError(f"{source}: recorded by {name[:80]}; only a DVS128 can be read")
