"""The log of a run as JSON lines, one object per epoch."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from utils.system.atomic_write import write_atomically
from utils.system.errors import UserError

# The names of the columns of the log, in their order.
NAMES = ("learning_rate", "train_loss", "test_loss", "train_accuracy", "test_accuracy")


class JsonLog:
    """The file `path`: the epochs of the tab-separated log, with all digits.

    A line holds `epoch`, counted from 1, and `NAMES`; accuracies are percentages. A number that is
    not finite, which JSON lacks, is null.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, rows: Sequence[Sequence[float]], last_epoch: int) -> None:
        """Make `rows`, the last of which is that of `last_epoch`, the content of the file.

        The file is replaced as a whole: a reader never sees a part of a line.
        """
        first = last_epoch - len(rows) + 1
        text = "".join(f"{_line(epoch, row)}\n" for epoch, row in enumerate(rows, first))
        write_atomically(self.path, lambda file: file.write(text.encode()))

    def read(self) -> list[list[float]]:
        """Return the rows; raises `UserError` for another file."""
        try:
            objects = map(json.loads, self.path.read_text().splitlines())
            return [[_number(entry[name]) for name in NAMES] for entry in objects]
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise UserError(f"{self.path} is not a JSON log of this program") from error


def _line(epoch: int, row: Sequence[float]) -> str:
    values = {n: v if math.isfinite(v) else None for n, v in zip(NAMES, row, strict=True)}
    return json.dumps({"epoch": epoch} | values)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
