"""The files of one run, and how they survive the next run of the same name."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from utils.system.atomic_write import writing

_CHECKPOINTS = (".pth", "_mid.pth", "_previous.pth", "_best.pth")
_SUFFIXES = (*_CHECKPOINTS, ".txt", ".pdf", "_firing_rate.dict", ".json")


@dataclass(frozen=True)
class RunFiles:
    """The files in `folder` whose names begin with `stem`."""

    folder: Path
    stem: str

    def path(self, suffix: str) -> Path:
        """Return the path of the file `<stem><suffix>`."""
        return self.folder / f"{self.stem}{suffix}"

    @property
    def log(self) -> Path:
        return self.path(".txt")

    @property
    def last(self) -> Path:
        return self.path(".pth")

    @property
    def mid(self) -> Path:
        """The checkpoint within an epoch."""
        return self.path("_mid.pth")

    @property
    def previous(self) -> Path:
        """The checkpoint before the last."""
        return self.path("_previous.pth")

    @property
    def best(self) -> Path:
        return self.path("_best.pth")

    @property
    def curves(self) -> Path:
        return self.path(".pdf")

    @property
    def firing_rates(self) -> Path:
        return self.path("_firing_rate.dict")

    @property
    def record(self) -> Path:
        return self.path(".json")

    @property
    def lock(self) -> Path:
        """The file whose lock the run holds while it trains."""
        return self.folder / f".{self.stem}.lock"

    def checkpoints(self) -> list[Path]:
        """Return where checkpoints of this run may lie."""
        return [self.path(suffix) for suffix in _CHECKPOINTS]

    def make_folder(self) -> None:
        """Make the folder; raises `UserError` where that is impossible."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def existing(self) -> list[str]:
        """Return the suffixes of the files that are there."""
        return [suffix for suffix in _SUFFIXES if self.path(suffix).exists()]

    def set_aside(self, keep: Path | None = None) -> RunFiles | None:
        """Give the files that are there a free stem `<stem>.old-<n>` and return them.

        A copy of `keep` stays. Returns None when there is nothing to set aside.
        """
        suffixes = self.existing()
        if not suffixes:
            return None
        stems = (f"{self.stem}.old-{n}" for n in count(1))
        aside = next(f for f in (RunFiles(self.folder, s) for s in stems) if not f.existing())
        for suffix in suffixes:
            move = shutil.copy2 if self.path(suffix) == keep else shutil.move
            with writing(aside.path(suffix)):
                move(self.path(suffix), aside.path(suffix))
        return aside


def owner(folder: Path, checkpoint: str) -> RunFiles:
    """Return the files of the run that wrote the file name `checkpoint`."""
    for suffix in sorted(_CHECKPOINTS, key=len, reverse=True):
        if checkpoint.endswith(suffix):
            return RunFiles(folder, checkpoint.removesuffix(suffix))
    return RunFiles(folder, checkpoint)
