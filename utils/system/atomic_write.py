"""Writing to disk: a file is the old one or the new one, and a refusal is one line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from utils.system.errors import UserError


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

    A run killed meanwhile leaves the former file, and so does a power cut. Raises `UserError` when
    the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with writing(path):
        try:
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _flush_folder(path.parent)
        except Exception as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise _refusal(error) or error from None


def link(path: Path, other: Path) -> None:
    """Let the file `path` be found under the name `other` too, replacing what that named before.

    Where the file system knows no links, `path` is renamed. Raises `UserError` when it refuses.
    """
    temporary = other.with_name(f".{other.name}.tmp")
    with writing(other):
        temporary.unlink(missing_ok=True)
        try:
            os.link(path, temporary)
        except OSError:
            path.replace(other)
        else:
            temporary.replace(other)


def _refusal(error: BaseException) -> OSError | None:
    """Return the disk's error behind `error`; torch reports one of its own, of missing bytes."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def _flush_folder(folder: Path) -> None:
    """Make sure that a rename in `folder` outlives a power cut, where its file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
