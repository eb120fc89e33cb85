"""Decode and encode recordings in AEDAT 3.1, the format of DVS128 Gesture."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from utils.events.recording import SIZE, Events
from utils.system.errors import UserError

_LAST_LINE = b"#!END-HEADER"
# Type, source, size of an event, offset of its timestamp, overflows of the timestamps, room for
# events, number of events, number of valid events; little-endian, as all that follows.
_PACKET = struct.Struct("<HHIIIIII")
_POLARITY = 1  # the type of packets of brightness changes
_EVENT = np.dtype([("data", "<u4"), ("time", "<u4")])
_MAX_OVERFLOWS = 1 << 16  # of 36 minutes each


def decode_aedat3(content: bytes, source: str = "events") -> Events:
    """Return the polarity events of an AEDAT 3.1 file's bytes, in the file's own orientation.

    Data bits 0, 1, 2-16 and 17-31 are validity, polarity, y and x; timestamps have 31 bits, to
    which the packet adds the number of their overflows. Events marked as invalid are left out.
    Raises UserError naming `source` for a damaged file, no events, or a larger sensor.
    """
    packets = [(events, overflows) for events, overflows in _packets(content, source)]
    if not sum(len(events) for events, _ in packets):
        raise UserError(f"{source}: no events in this AEDAT 3.1 file")
    events = np.concatenate([events for events, _ in packets])
    overflows = np.repeat([count for _, count in packets], [len(events) for events, _ in packets])
    x, y = events["data"] >> 17, events["data"] >> 2 & 0x7FFF
    if max(x.max(), y.max()) >= SIZE:
        raise UserError(f"{source}: a sensor larger than {SIZE}x{SIZE}; only a DVS128 can be read")
    return Events(
        t=(events["time"] & 0x7FFFFFFF).astype(np.int64) + (overflows << 31),
        x=x.astype(np.uint8),
        y=y.astype(np.uint8),
        p=(events["data"] >> 1 & 1).astype(np.uint8),
        source=source,
    )


def encode_aedat3(events: Events) -> bytes:
    """Return `events` as an AEDAT 3.1 file, the inverse of `decode_aedat3`.

    There is one packet for each number of overflows of the timestamps.
    """
    lines = ("#!AER-DAT3.1", "#Format: RAW", "#Source 1: DVS128", _LAST_LINE.decode())
    content = "".join(f"{line}\r\n" for line in lines).encode()
    overflows = events.t >> 31
    for count in np.unique(overflows):
        chosen = overflows == count
        x, y, p = (getattr(events, name)[chosen].astype(np.uint32) for name in "xyp")
        body = np.empty(len(x), _EVENT)
        body["data"] = x << 17 | y << 2 | p << 1 | 1
        body["time"] = events.t[chosen] & 0x7FFFFFFF
        header = (_POLARITY, 1, _EVENT.itemsize, 4, count, len(x), len(x), len(x))
        content += _PACKET.pack(*header) + body.tobytes()
    return content


def _packets(content: bytes, source: str) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the events of each polarity packet, and the overflows of its timestamps."""
    start = _header_length(content, source)
    while start < len(content):
        if len(content) - start < _PACKET.size:
            raise _damaged(source, "ends within the header of a packet")
        kind, _, size, _, overflows, room, number, valid = _PACKET.unpack_from(content, start)
        start += _PACKET.size
        if room * size > len(content) - start:
            raise _damaged(source, f"{len(content) - start} bytes of a packet of {room * size}")
        if kind == _POLARITY:
            if size != _EVENT.itemsize or number > room or overflows > _MAX_OVERFLOWS:
                raise _damaged(source, "a packet's header contradicts itself")
            events = np.frombuffer(content, _EVENT, number, start)
            yield (events[events["data"] & 1 == 1] if valid < number else events), overflows
        start += room * size


def _header_length(content: bytes, source: str) -> int:
    """Return the length of the text lines in front of the packets."""
    start = 0
    while content.startswith(b"#", start):
        end = content.find(b"\n", start) + 1 or len(content)
        last = content[start:end].rstrip() == _LAST_LINE
        start = end
        if last:
            return start
    raise _damaged(source, "its header has no end")


def _damaged(source: str, fault: str) -> UserError:
    return UserError(f"{source}: damaged AEDAT 3.1 file ({fault}); download or extract it again")
