"""Read recordings of event cameras in any of the known file formats."""

from __future__ import annotations

import re
from pathlib import Path

from utils.events.formats.aedat2 import decode_aedat2
from utils.events.formats.aedat3 import decode_aedat3
from utils.events.formats.aedat4 import read_aedat4
from utils.events.formats.atis import decode_atis
from utils.events.recording import Events
from utils.system.errors import UserError
from utils.system.regular_file import open_regular

_MAX_BYTES = 1 << 30  # a recording of CIFAR10-DVS has 1 to 2 MB
_VERSION = re.compile(rb"#!AER-DAT(\d+(?:\.\d+)?)")


def read_events(path: str | Path, sensor: tuple[int, int] | None = None) -> Events:
    """Return the recording in a file of AEDAT 2.0, 3.1 or, with the package `aedat`, AEDAT 4.

    The format is determined by the header, not by the file name; a `.bin` file without a header is
    one of an ATIS. `sensor`, if given, is the expected number of rows and columns. Raises UserError
    naming the file for another version, another camera, a truncated body, no events, more than
    1 GiB, and anything but a regular file.
    """
    try:
        with open_regular(path, _MAX_BYTES) as file:
            content = file.read()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    events = _decode(content, path, sensor)
    if sensor not in (None, events.sensor):
        rows, columns = events.sensor
        raise UserError(f"{path}: {rows}x{columns} pixels instead of {sensor[0]}x{sensor[1]}")
    return events


def _decode(content: bytes, path: str | Path, sensor: tuple[int, int] | None) -> Events:
    if content and Path(path).suffix == ".bin" and not _VERSION.match(content):
        return decode_atis(content, str(path), sensor)
    version = _version(content, str(path))
    if version.startswith("4"):
        return read_aedat4(path)
    if version == "3.1":
        return decode_aedat3(content, str(path))
    if not re.fullmatch(r"2(\.0)?", version):
        raise UserError(f"{path}: AEDAT {version}; only AEDAT 2.0, 3.1 and 4 can be read")
    return decode_aedat2(content, str(path))


def _version(content: bytes, source: str) -> str:
    """Return the AEDAT version that the first line of a file gives."""
    if not content:
        raise UserError(f"{source}: the file is empty; download or extract it again")
    match = _VERSION.match(content)
    if match is None:
        raise UserError(f"{source}: not an AEDAT file, its first line is not #!AER-DAT2.0")
    return match[1].decode()
