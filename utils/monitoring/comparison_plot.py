"""The curves of groups of runs in one picture: their means, and bands of one standard deviation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from utils.monitoring.run_logs import Group
from utils.system.text import printable

# Of Okabe and Ito: distinct to the colour-blind; further groups repeat them with other lines.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_LINES = ("-", "--", "-.", ":")
_TRAIN_LOSS, _TEST_LOSS, _TRAIN_ACCURACY, _TEST_ACCURACY = 1, 2, 3, 4  # columns of a log


def draw(groups: Sequence[Group]) -> Any:
    """Return a matplotlib figure of loss and accuracy against the epoch.

    The curves of test or validation data have bands; those of the training are thin and light.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2 + 0.22 * len(groups)), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for number, group in enumerate(groups):
        style = {
            "color": _COLOURS[number % len(_COLOURS)],
            "ls": _LINES[number // len(_COLOURS) % len(_LINES)],
            "marker": "o" if group.epochs == 1 else None,
        }
        _curves(loss, group, _TRAIN_LOSS, _TEST_LOSS, style)
        _curves(accuracy, group, _TRAIN_ACCURACY, _TEST_ACCURACY, style)
    _finish(loss, "Loss", "cross-entropy (nats)", groups)
    _finish(accuracy, "Accuracy", "top-1 accuracy (%)", groups)
    loss.set_ylim(bottom=0)
    handles = accuracy.get_lines()[1::2]  # those of the test
    labels = [_label(group) for group in groups]
    columns = 2 if len(groups) > 3 and max(map(len, labels)) < 50 else 1
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def _label(group: Group) -> str:
    scored = "" if group.tested_on == "test" else f", {group.tested_on} data"
    return printable(f"{group.label} (n = {len(group.runs)}{scored})").replace("$", r"\$")


def _curves(axes: Any, group: Group, train: int, test: int, style: dict[str, Any]) -> None:
    """Draw the mean of two columns of a group's logs."""
    epochs = np.arange(1, group.epochs + 1)
    trained, tested = (_values(group, column) for column in (train, test))
    axes.plot(epochs, trained.mean(0), lw=0.8, alpha=0.45, **style)
    mean = tested.mean(0)
    axes.plot(epochs, mean, lw=1.8, **style)
    if len(tested) > 1:
        deviation = tested.std(0, ddof=1)
        low, high = mean - deviation, mean + deviation
        axes.fill_between(epochs, low, high, color=style["color"], alpha=0.18, lw=0)


def _values(group: Group, column: int) -> np.ndarray:
    """Return a column of all logs of a group, `(runs, epochs)`; what is infinite is left out."""
    values = np.array([run.column(column) for run in group.runs])
    return np.where(np.isfinite(values), values, np.nan)


def _finish(axes: Any, title: str, unit: str, groups: Sequence[Group]) -> None:
    from matplotlib.ticker import MaxNLocator

    longest = max(group.epochs for group in groups)
    tested_on = " or ".join(sorted({group.tested_on for group in groups}))
    axes.set_title(f"{title}: {tested_on} (thin: training)", fontsize=10)
    axes.set(xlabel="epoch", ylabel=unit)
    axes.set_xlim((0.5, 1.5) if longest == 1 else (1, longest))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    axes.grid(alpha=0.3)
