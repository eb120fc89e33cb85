"""The names of a run's files, and how they are kept when the next run has the same name."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from utils.system.atomic_write import temporary_path, writing
from utils.system.errors import UserError

# What follows the stem in the name of each file of a run.
LAST, MID, PREVIOUS, BEST = ".pth", "_mid.pth", "_previous.pth", "_best.pth"
LOG, JSON_LOG, CURVES, RECORD, CARD = ".txt", ".jsonl", ".pdf", ".json", "_card.md"
EMA = "_ema.pth"
EVALUATION, FIRING_RATES = "_evaluation.tsv", "_firing_rate.dict"
_REPORTS = tuple(
    f"{kind}_report.{form}" for kind in ("", "_best", "_ema") for form in ("html", "json")
)
_CHECKPOINTS = (LAST, MID, PREVIOUS, BEST)
ASIDE = ".old-"  # and a number: the stem of a run that was set aside
_SUFFIXES = (
    *_CHECKPOINTS,
    EMA,
    LOG,
    JSON_LOG,
    CURVES,
    RECORD,
    CARD,
    EVALUATION,
    FIRING_RATES,
    *_REPORTS,
)


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
        return self.path(LOG)

    @property
    def json_log(self) -> Path:
        return self.path(JSON_LOG)

    @property
    def last(self) -> Path:
        return self.path(LAST)

    @property
    def mid(self) -> Path:
        """The checkpoint within an epoch."""
        return self.path(MID)

    @property
    def previous(self) -> Path:
        """The checkpoint before the last."""
        return self.path(PREVIOUS)

    @property
    def best(self) -> Path:
        return self.path(BEST)

    @property
    def ema(self) -> Path:
        """The averaged weights of their best epoch."""
        return self.path(EMA)

    @property
    def curves(self) -> Path:
        return self.path(CURVES)

    @property
    def evaluation(self) -> Path:
        return self.path(EVALUATION)

    @property
    def firing_rates(self) -> Path:
        return self.path(FIRING_RATES)

    @property
    def record(self) -> Path:
        return self.path(RECORD)

    @property
    def card(self) -> Path:
        """The model card of the best checkpoint."""
        return self.path(CARD)

    @property
    def lock(self) -> Path:
        """The file that the run locks while it trains."""
        return self.folder / f".{self.stem}.lock"

    def checkpoints(self) -> list[Path]:
        """Return the paths of all kinds of checkpoint of this run."""
        return [self.path(suffix) for suffix in _CHECKPOINTS]

    def make_folder(self) -> None:
        """Create the folder; raises `UserError` where the disk refuses."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def existing(self) -> list[str]:
        """Return the suffixes of the files that exist."""
        return [suffix for suffix in _SUFFIXES if self.path(suffix).exists()]

    def remove_unfinished(self) -> None:
        """Remove the temporary files of a process that was killed while it wrote."""
        for suffix in _SUFFIXES:
            path = self.path(suffix)
            with writing(path):
                temporary_path(path).unlink(missing_ok=True)

    def set_aside(self, keep: Path | None = None) -> RunFiles | None:
        """Rename the files that exist to a free stem `<stem>.old-<n>` and return them.

        `keep` is copied instead. Returns None when there is nothing to rename.
        """
        suffixes = self.existing()
        if not suffixes:
            return None
        stems = (f"{self.stem}{ASIDE}{n}" for n in count(1))
        aside = next(f for f in (RunFiles(self.folder, s) for s in stems) if not f.existing())
        for suffix in suffixes:
            move = shutil.copy2 if self.path(suffix) == keep else shutil.move
            with writing(aside.path(suffix)):
                move(self.path(suffix), aside.path(suffix))
        return aside


def run_files(folder: Path, stem: str, flag: str) -> RunFiles:
    """Return the files of the run `stem`.

    Raises `UserError`, naming `flag`, for a stem whose files could be those of another run: the
    last checkpoint of `net_best` would be the best one of `net`.
    """
    endings = {suffix.rpartition(".")[0] for suffix in _SUFFIXES} - {""}
    taken = next((ending for ending in sorted(endings) if stem.endswith(ending)), None)
    if aside := re.search(rf"{re.escape(ASIDE)}\d+$", stem):
        taken = aside[0]
    if taken:
        raise UserError(
            f"{flag}: names ending in {taken} are those of files of another run, "
            f"{stem.removesuffix(taken)}; choose another"
        )
    return RunFiles(folder, stem)


def owner(folder: Path, checkpoint: str) -> RunFiles:
    """Return the files of the run that wrote the checkpoint of the file name `checkpoint`."""
    for suffix in sorted(_CHECKPOINTS, key=len, reverse=True):
        if checkpoint.endswith(suffix):
            return RunFiles(folder, checkpoint.removesuffix(suffix))
    return RunFiles(folder, checkpoint)
