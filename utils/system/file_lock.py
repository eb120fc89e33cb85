"""A lock that one process at a time holds on a file, for files that several may write."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from utils.system.text import print_line, printable

_PAUSE = 0.1  # seconds between two attempts of a process that waits
_HOLDER = re.compile(r"process (?P<process>\d+) on (?P<host>\S+)")


class LockHeld(Exception):
    """Another process holds the lock; the text says which one, and since when."""


class FileLock:
    """An exclusive lock on the file `path`, in which the holder writes its name.

    The kernel keeps the lock (`flock`) and releases it when the process ends, however it ends. On
    a file system without `flock` the name in the file is the lock: it counts while a process of
    that number runs on this host; a holder on another host cannot be checked and is warned of.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: int | None = None

    def acquire(self, wait: bool = False) -> None:
        """Take the lock, with `wait` as soon as it is free, else now.

        Raises `LockHeld` where another process holds it, and OSError where the file cannot be
        written.
        """
        while self.file is None:
            try:
                self.file = self._open()
            except LockHeld:
                if not wait:
                    raise
                time.sleep(_PAUSE)
        os.truncate(self.file, 0)
        os.write(self.file, _own_name().encode())

    def release(self) -> None:
        """Remove the file and release the lock."""
        # Removed while locked: a process that has opened the file finds that it is gone.
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        os.close(self.file)
        self.file = None

    def check(self) -> None:
        """Raise `LockHeld` where another process holds the lock; write nothing."""
        with suppress(OSError):
            file = os.open(self.path, os.O_RDONLY)
            try:
                self._lock(file, fcntl.LOCK_SH)
            finally:
                os.close(file)

    def _open(self) -> int | None:
        """Return the locked file, None if its former holder removed it before it was locked."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._lock(file, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(file), self.path.stat()):
                return file
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(file)
            raise
        os.close(file)
        return None

    def _lock(self, file: int, operation: int) -> None:
        try:
            fcntl.flock(file, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockHeld(_read_name(file)) from None
        except OSError:  # a file system without locks
            self._check_name(_read_name(file))

    def _check_name(self, name: str) -> None:
        """Raise `LockHeld` where the process `name` runs on this host; warn of one elsewhere."""
        holder = _HOLDER.match(name)
        if not holder:
            return
        if holder["host"] != socket.gethostname():
            print_line(
                f"warning: {self.path.parent} has no file locks, and {name} may still write there; "
                f"if it has ended, remove {self.path}",
                sys.stderr,
            )
        elif _is_running(int(holder["process"])):
            raise LockHeld(name)


def _own_name() -> str:
    """Return the name of this process, and the time."""
    now = datetime.now().astimezone().isoformat(" ", "seconds")
    return f"process {os.getpid()} on {socket.gethostname()} (since {now})"


def _read_name(file: int) -> str:
    """Return the name in an open lock file, escaped by `printable`."""
    return printable(os.pread(file, 200, 0).decode(errors="replace")) or "another process"


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user
        return True
    return True
