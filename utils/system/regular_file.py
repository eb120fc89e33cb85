"""Open files that others made: regular ones only, and none beyond a size."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: str | Path, most: int | None = None) -> BinaryIO:
    """Open the file at `path` for reading, without waiting for the writer of a pipe.

    Raises OSError for a pipe, device, socket or folder, and for more than `most` bytes.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if most is not None and status.st_size > most:
            line = f"{status.st_size:,} bytes, more than the {most:,} that are allowed"
            raise OSError(errno.EFBIG, line, str(path))
        return os.fdopen(handle, "rb")
    except OSError:
        os.close(handle)
        raise
