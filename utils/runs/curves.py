"""The curves of a run, drawn from its log."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

from utils.system.atomic_write import write_atomically
from utils.system.text import printable

_TRAIN, _TEST = "#0072b2", "#d55e00"  # distinct to the colour-blind and in grey


def save_curves(
    path: Path, rows: Sequence[Sequence[float]], title: str, tested_on: str = "test"
) -> None:
    """Draw loss and accuracy over the epochs of the log's `rows` into the PDF file `path`.

    `tested_on` names the data that were tested on after each epoch.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    figure.suptitle(printable(title).replace("$", r"\$"), fontsize=10)
    loss, accuracy = figure.subplots(1, 2)
    _, train_loss, test_loss, train_acc, test_acc = zip(*rows, strict=True)
    _panel(loss, "Loss", "cross-entropy (nats)", {"train": train_loss, tested_on: test_loss})
    highest = max(filter(math.isfinite, (*train_loss, *test_loss)), default=0)
    loss.set_ylim(0, 1.08 * highest or 1)
    _panel(accuracy, "Accuracy", "top-1 accuracy (%)", {"train": train_acc, tested_on: test_acc})
    best = max(test_acc)
    accuracy.axhline(best, color=_TEST, lw=0.8, ls=":", label=f"best {tested_on}: {best:.2f} %")
    for axes in (loss, accuracy):
        axes.legend(frameon=False)
    undated = {"CreationDate": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # characters that the font lacks
        write_atomically(path, lambda file: figure.savefig(file, format="pdf", metadata=undated))


def _panel(axes, title: str, unit: str, curves: dict[str, Sequence[float]]) -> None:
    """Draw the two `curves` by their names: training, then test or validation."""
    from matplotlib.ticker import MaxNLocator

    (train_name, train), (test_name, test) = curves.items()
    epochs = range(1, len(train) + 1)
    few = len(train) <= 30
    style = {"marker": "o" if few else None, "ms": 4, "lw": 1.4}
    axes.plot(epochs, train, color=_TRAIN, label=train_name, **style)
    axes.plot(epochs, test, color=_TEST, ls="--", label=test_name, **style)
    axes.set(title=title, xlabel="epoch", ylabel=unit)
    axes.set_xlim((0.7, len(train) + 0.3) if few else (1, len(train)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    axes.grid(alpha=0.3)
