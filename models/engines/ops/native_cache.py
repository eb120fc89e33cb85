"""The cache of compiled libraries: files that only the user can have written, with checksums."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path


def cache_folder() -> Path | None:
    """Return the project's folder in the user's cache; None if only a folder of others is there.

    It is created with mode 0700, whatever the umask. One of the user's that others could write is
    closed to them.
    """
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dsr"
        root.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(root):
            root.mkdir(mode=0o700)
        if not root.is_symlink() and root.stat().st_uid == os.getuid():
            root.chmod(0o700)
        return root if _is_trusted(root, stat.S_ISDIR) else None
    except (OSError, RuntimeError):  # the latter for a user without a home
        return None


def is_intact(library: Path) -> bool:
    """Return whether `library` and its checksum belong to the user or root and match."""
    try:
        trusted = all(_is_trusted(file, stat.S_ISREG) for file in (library, _checksum_of(library)))
        return trusted and _checksum_of(library).read_text() == _digest(library)
    except (OSError, ValueError):
        return False


def publish(compiled: Path, library: Path) -> None:
    """Rename the file `compiled` to `library` in the same file system, with a checksum beside it.

    Both are on disk before the rename, so a power failure leaves no library that passes for intact
    but is not. Raises OSError when the file system refuses.
    """
    compiled.chmod(0o700)
    checksum = compiled.with_name(f"{compiled.name}.sha256")
    checksum.write_text(_digest(compiled))
    checksum.chmod(0o600)
    for file in (compiled, checksum):
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    checksum.replace(_checksum_of(library))
    compiled.replace(library)


def _checksum_of(library: Path) -> Path:
    return library.with_name(f"{library.name}.sha256")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _is_trusted(path: Path, is_kind) -> bool:
    """Return whether `path` is of this kind and only the user or root can have written it."""
    status = path.lstat()
    mine = status.st_uid in (os.getuid(), 0)
    return mine and is_kind(status.st_mode) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
