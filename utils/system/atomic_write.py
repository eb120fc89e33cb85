"""Files and folders written atomically: readers see the old content or the new, never a part."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from utils.system.errors import UserError

REMEDY = "make room or choose another --checkpoint"


@contextmanager
def writing(path: Path, remedy: str = REMEDY) -> Iterator[None]:
    """Turn an OSError inside the context into a UserError that names `path` and a `remedy`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror or error}): {remedy}") from error


def write_atomically(path: Path, write: Callable[[BinaryIO], None], remedy: str = REMEDY) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it to `path`.

    A process killed at any moment leaves the previous file intact, and so does a power failure.
    Raises UserError, naming `path` and the `remedy`, when the file cannot be written.
    """
    temporary = temporary_path(path)
    with writing(path, remedy):
        try:
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
        except Exception as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise _os_error(error) or error from None


def temporary_path(path: Path) -> Path:
    """Return the file that is renamed to `path` once it is complete."""
    return path.with_name(f".{path.name}.tmp")


@contextmanager
def folder_atomically(path: Path, remedy: str = REMEDY) -> Iterator[Path]:
    """Yield a new folder beside `path`, renamed to `path` at the end and removed on an error.

    What a killed process left there is removed first. Raises UserError, naming `path` and the
    `remedy`, when something cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.partial")
    with writing(path, remedy):
        _remove(unfinished)
        unfinished.mkdir(parents=True)
        try:
            yield unfinished
            unfinished.rename(path)
        except BaseException:
            _remove(unfinished)
            raise


def link(path: Path, other: Path) -> None:
    """Make `other` a hard link to the file `path`, replacing the file `other`.

    On a file system without hard links, `path` is renamed to `other`. Raises UserError when the
    file system refuses both.
    """
    temporary = temporary_path(other)
    with writing(other):
        temporary.unlink(missing_ok=True)
        try:
            os.link(path, temporary)
        except OSError:
            path.replace(other)
        else:
            temporary.replace(other)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power failure, where its file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    """Remove a folder, file or link, if there is one and it can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _os_error(error: BaseException) -> OSError | None:
    """Return the OSError that caused `error`; torch.save reports a short write as its own error."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error
