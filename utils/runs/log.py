"""The log of a run: a tab-separated table with one row per epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from utils.system.atomic_write import write_atomically, writing
from utils.system.errors import UserError

COLUMNS = ("Learning Rate", "Train Loss", "Valid Loss", "Train Acc.", "Valid Acc.")


class Log:
    """The table in the file `path`: mean losses, accuracies in percent.

    The row of an evaluation has 0 for the learning rate and the training figures, as in published
    logs, or `nan` for the training figures, as earlier versions wrote it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[list[float]]:
        """Return all rows, none if there is no file; raises `UserError` for another table."""
        if not self.path.exists():
            return []
        if not self.path.is_file():  # reading a device or a pipe may never end
            raise UserError(f"{self.path} is not a regular file: move it away")
        try:
            return _parse(self.path.read_text())
        except ValueError as error:
            raise UserError(f"{self.path} is not a log of this program: move it away") from error

    def epochs(self) -> list[list[float]]:
        """Return the rows of trained epochs, without those of evaluations."""
        return [row for row in self.read() if not _is_evaluation(row)]

    def start(self, rows: Sequence[Sequence[float]] = ()) -> None:
        """Replace the file by the header and `rows`."""
        lines = ["".join(f"{name}\t" for name in COLUMNS), *map(_line, rows)]
        text = "".join(f"{line}\n" for line in lines)
        write_atomically(self.path, lambda file: file.write(text.encode()))

    def append(self, row: Sequence[float]) -> None:
        """Add `row` at the end, below a header if the file is new."""
        if not self.path.exists():
            self.start()
        with writing(self.path), self.path.open("a") as file:
            file.write(_line(row) + "\n")

    def complete(self, rows: Sequence[Sequence[float]]) -> None:
        """Make `rows`, one per epoch, those of the file; appends where only the last is missing."""
        count = self._count()
        if count == len(rows) - 1:
            self.append(rows[-1])
        elif count != len(rows):
            self.start(rows)

    def holds(self, count: int) -> bool:
        """Return whether the file has `count` epochs and can be read."""
        return self._count() == count

    def _count(self) -> int | None:
        """Return the number of epochs in the file, None if it cannot be read."""
        try:
            epochs = self.epochs()
            return len(epochs) if self.path.read_text().endswith("\n") else None
        except (OSError, UserError, ValueError):
            return None


def evaluation_row(loss: float, accuracy: float) -> list[float]:
    """Return the published row of an evaluation."""
    return [0.0, 0.0, loss, 0.0, accuracy]


def _is_evaluation(row: Sequence[float]) -> bool:
    rate, train_loss, _, train_accuracy, _ = row
    return math.isnan(train_loss) or rate == train_loss == train_accuracy == 0


def _line(row: Sequence[float]) -> str:
    return "".join(f"{value:.6f}\t" for value in row)


def _parse(text: str) -> list[list[float]]:
    header, *lines = text.split("\n")[:-1]  # the last row of a killed run may be cut
    rows = [[float(entry) for entry in line.split()] for line in lines]
    if tuple(header.rstrip("\t").split("\t")) != COLUMNS or any(
        len(r) != len(COLUMNS) for r in rows
    ):
        raise ValueError("not the five columns")
    return rows
