"""One run at a time may write the files of a name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.system.atomic_write import writing
from utils.system.errors import UserError
from utils.system.file_lock import FileLock, LockHeld


class RunLock:
    """The lock of a run on the file `path`; raises `UserError` where another run holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = FileLock(path)

    def __enter__(self) -> RunLock:
        with writing(self.path), self._refused():
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
            stem = self.path.name.removeprefix(".").removesuffix(".lock")
            raise UserError(
                f"--name: {holder} is writing {self.path.parent / stem}*; wait for it, end it, or "
                "choose another --name"
            ) from None
