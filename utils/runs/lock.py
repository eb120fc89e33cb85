"""One run at a time may write the files of a name."""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from utils.system.atomic_write import writing
from utils.system.errors import UserError


class RunLock:
    """The lock in the file `path`, which says who holds it.

    It lies in the kernel, not in the file's being there: a process that dies in whatever way
    has let go of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: int | None = None

    def __enter__(self) -> RunLock:
        """Take the lock; raises `UserError`, which says who holds it, where another run does."""
        with writing(self.path):
            while self.file is None:
                self.file = self._open()
            os.truncate(self.file, 0)
            os.write(self.file, _self().encode())
        return self

    def __exit__(self, *exception: object) -> None:
        # Removed while it is held: whoever opened it meanwhile sees that, and makes a new one.
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        os.close(self.file)
        self.file = None

    def check(self) -> None:
        """Raise `UserError` where another run holds the lock; nothing is written."""
        with suppress(OSError):
            file = os.open(self.path, os.O_RDONLY)
            self._try(file, fcntl.LOCK_SH)
            os.close(file)

    def _open(self) -> int | None:
        """Return the file with the lock on it, None if it was removed in the meantime."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        self._try(file, fcntl.LOCK_EX)
        if self.path.exists() and os.path.samestat(os.fstat(file), self.path.stat()):
            return file
        os.close(file)
        return None

    def _try(self, file: int, kind: int) -> None:
        """Put a lock on `file`; raises `UserError` if another process has one."""
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 200).decode(errors="replace") or "another process"
            os.close(file)
            stem = self.path.name.removeprefix(".").removesuffix(".lock")
            raise UserError(
                f"--name: {holder} is writing {self.path.parent / stem}*; wait for it, end it, or "
                "choose another --name"
            ) from None
        except OSError:  # a file system without locks
            return


def _self() -> str:
    """Return who this process is, and when."""
    now = datetime.now().astimezone().isoformat(" ", "seconds")
    return f"process {os.getpid()} on {socket.gethostname()} (since {now})"
