"""The checkpoints of a run on their way to disk: at every moment there is a whole one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from utils.runs import checkpoint
from utils.runs.paths import RunFiles
from utils.system.atomic_write import link, writing


class Checkpoints:
    """Writes the checkpoints of the run `files`, which goes on from the file `resumed`, if any.

    The last is kept as the previous one once the next is whole, unless nothing says that it is
    whole itself. All raise `UserError` when the disk refuses; what was there is left as it was.
    """

    def __init__(self, files: RunFiles, resumed: Path | None = None) -> None:
        self.files = files
        self.last_is_whole = resumed == files.last

    def save_within_epoch(self, content: dict[str, Any]) -> None:
        """Save where an epoch stands."""
        checkpoint.save(self.files.mid, content)

    def save_epoch(self, content: dict[str, Any], is_best: bool) -> None:
        """Save an epoch, which makes the checkpoints within it superfluous."""
        files = self.files
        if is_best or not files.best.exists():
            checkpoint.save(files.best, content)
        if self.last_is_whole:
            link(files.last, files.previous)
        checkpoint.save(files.last, content)
        self.last_is_whole = True
        self._remove(files.mid)

    def finish(self) -> None:
        """Remove what only an unfinished run needs."""
        self._remove(self.files.previous)

    def _remove(self, path: Path) -> None:
        with writing(path):
            path.unlink(missing_ok=True)
