"""Read a recording of an event camera, whatever its file format."""

from __future__ import annotations

import re
from pathlib import Path

from utils.events.aedat2 import decode_aedat2
from utils.events.aedat4 import read_aedat4
from utils.events.recording import Events
from utils.system.errors import UserError

_VERSION = re.compile(rb"#!AER-DAT(\d+(?:\.\d+)?)")


def read_events(path: str | Path) -> Events:
    """Return the recording in a file of AEDAT 2.0, or of AEDAT 4 where the `aedat` package is.

    The header decides which, never the file's ending. Raises UserError naming the file for another
    version, another camera, a truncated body and a file without events.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    version = _version(content, str(path))
    if version.startswith("4"):
        return read_aedat4(path)
    if not re.fullmatch(r"2(\.0)?", version):
        raise UserError(f"{path}: AEDAT {version}; only AEDAT 2.0 and AEDAT 4 can be read")
    return decode_aedat2(content, str(path))


def _version(content: bytes, source: str) -> str:
    if not content:
        raise UserError(f"{source}: the file is empty; fetch or extract it again")
    match = _VERSION.match(content)
    if match is None:
        raise UserError(f"{source}: no AEDAT file, its first line is not #!AER-DAT2.0")
    return match[1].decode()
