"""Read recordings in AEDAT 4, with the optional package `aedat`."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from utils.events.recording import SIZE, Events
from utils.system.errors import UserError, first_line
from utils.system.regular_file import open_regular

_MAX_HEADER_BYTES = 1 << 20
_DESCRIPTION = re.compile(rb"<dv\b.*</dv>", re.DOTALL)


def read_aedat4(path: str | Path) -> Events:
    """Return the first event stream of an AEDAT 4 file, in the file's own orientation.

    AEDAT 4 stores x and y as seen, so nothing is mirrored. Raises UserError naming the file if the
    package is missing, or the file is damaged, contains no events or is from a larger sensor.
    """
    packets = _event_packets(path)
    if not sum(map(len, packets)):
        raise UserError(f"{path}: no events in this AEDAT 4 file")
    events = np.concatenate(packets)
    if max(events["x"].max(), events["y"].max()) >= SIZE:
        raise UserError(f"{path}: a sensor larger than {SIZE}x{SIZE}; only a DVS128 can be read")
    x, y, p = (events[field].astype(np.uint8) for field in ("x", "y", "on"))
    return Events(events["t"].astype(np.int64), x, y, p, str(path))


def _event_packets(path: str | Path) -> list[np.ndarray]:
    """Return the packets (fields t, x, y, on) of the event stream with the lowest number."""
    try:
        import aedat
    except ImportError as error:
        raise UserError(f"{path}: reading AEDAT 4 needs a package: pip install aedat") from error
    _check_header(path)
    try:
        decoder = aedat.Decoder(str(path))
        kinds = decoder.id_to_stream().items()
        stream = min((key for key, value in kinds if value["type"] == "events"), default=None)
        return [packet["events"] for packet in decoder if packet["stream_id"] == stream]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the package panics on some damage: not an Exception
        raise UserError(f"{path}: damaged AEDAT 4 file ({first_line(error)})") from error


def _check_header(path: str | Path) -> None:
    """Raise UserError if the description of the streams is truncated or not XML.

    The package would abort the whole process.
    """
    with open_regular(path) as file:
        file.readline()
        (length,) = struct.unpack("<I", file.read(4).ljust(4, b"\0"))
        header = file.read(min(length, _MAX_HEADER_BYTES))
    description = _DESCRIPTION.search(header)
    try:
        ElementTree.fromstring(description[0].decode() if description else "")
    except (UnicodeDecodeError, ElementTree.ParseError) as error:
        raise UserError(
            f"{path}: damaged AEDAT 4 file (no description of its streams: {error})"
        ) from error
