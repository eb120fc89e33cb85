"""The evaluations of a run: a tab-separated table with one row per evaluation."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from datetime import datetime
from pathlib import Path

from utils.system.atomic_write import writing
from utils.system.errors import UserError
from utils.system.text import printable

COLUMNS = (
    "date",
    "checkpoint",
    "timesteps",
    "loss",
    "top-1 (%)",
    "top-5 (%)",
    "samples",
    "firing rate",
)


@dataclass(frozen=True)
class Evaluation:
    """One row; `checkpoint` is "untrained" without one, None is written as an empty entry.

    `loss` is the mean, accuracies are in percent, `firing_rate` is the mean over layers.
    """

    checkpoint: str
    timesteps: int | None
    loss: float
    top1: float
    top5: float
    samples: int
    firing_rate: float | None = None


def append_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Add a row with the present date to the table `path`, which is created if there is none.

    Raises `UserError` where `path` is another table or cannot be written.
    """
    header = "\t".join(COLUMNS)
    with writing(path), path.open("a+", encoding="utf-8", errors="replace") as file:
        file.seek(0)
        if (first := file.readline()) and first.rstrip("\n") != header:
            raise UserError(f"{path} is not a table of evaluations: move it away")
        lines = [] if first else [header]
        lines.append("\t".join([_now(), *map(_entry, astuple(evaluation))]))
        file.write("".join(f"{line}\n" for line in lines))


def _now() -> str:
    return datetime.now().astimezone().isoformat(" ", "seconds")


def _entry(value: str | float | None) -> str:
    if isinstance(value, float):
        return f"{value:.6f}"
    return "" if value is None else printable(str(value))
