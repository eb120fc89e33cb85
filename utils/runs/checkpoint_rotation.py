"""The order in which checkpoints replace each other: at every moment one on disk is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from utils.runs import checkpoint
from utils.runs.paths import RunFiles
from utils.system.atomic_write import link, writing


class Checkpoints:
    """Writes the checkpoints of the run `files`, resumed from the file `resumed`, if any.

    The last checkpoint is kept as the previous one while the next is written, if it is known to be
    whole: written or read by this process. Methods raise `UserError` when the disk refuses, and
    leave the files as they were.
    """

    def __init__(self, files: RunFiles, resumed: Path | None = None) -> None:
        self.files = files
        self.last_is_whole = resumed == files.last

    def save_within_epoch(self, content: dict[str, Any]) -> None:
        """Save a checkpoint within an epoch."""
        checkpoint.save(self.files.mid, content)

    def save_average(self, content: dict[str, Any], is_best: bool) -> None:
        """Save the averaged weights of a whole epoch, if it is their best or there are none."""
        if is_best or not self.files.ema.exists():
            checkpoint.save(self.files.ema, content)

    def save_epoch(self, content: dict[str, Any], is_best: bool) -> None:
        """Save a whole epoch and remove the checkpoint within it."""
        files = self.files
        if is_best or not files.best.exists():
            checkpoint.save(files.best, content)
        if self.last_is_whole:
            link(files.last, files.previous)
        checkpoint.save(files.last, content)
        self.last_is_whole = True
        self._remove(files.mid)

    def finish(self) -> None:
        """Remove the checkpoints that only an unfinished run needs."""
        self._remove(self.files.previous)

    def _remove(self, path: Path) -> None:
        with writing(path):
            path.unlink(missing_ok=True)
