"""One run at a time may write the files of a name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from utils.runs.paths import RunFiles
from utils.system.atomic_write import writing
from utils.system.errors import UserError
from utils.system.file_lock import FileLock, LockHeld


class RunLock:
    """The lock on the files of a run; raises `UserError` where another run holds it."""

    def __init__(self, files: RunFiles) -> None:
        self.files = files
        self.lock = FileLock(files.lock)

    def __enter__(self) -> RunLock:
        with writing(self.files.lock), self._refused():
            self.lock.acquire()
        return self

    def __exit__(self, *exception: object) -> None:
        self.lock.release()

    def check(self) -> None:
        """Raise `UserError` where another run holds the lock; write nothing."""
        with self._refused():
            self.lock.check()

    @contextmanager
    def _refused(self) -> Iterator[None]:
        try:
            yield
        except LockHeld as holder:
            raise UserError(
                f"--name: {holder} is writing {self.files.path('*')}; wait for it, end it, or "
                "choose another --name"
            ) from None
