"""Writing to disk: a file is the old one or the new one, and a refusal is one line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from utils.errors import UserError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the disk meanwhile into a `UserError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}): make room or choose another --checkpoint"
        ) from error


def write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it to `path`.

    A run killed meanwhile leaves the former file. Raises `UserError` when the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with writing(path):
        try:
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
