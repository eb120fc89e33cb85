"""Summarise a training run that was evaluated with `--rate_stat 1`, from its files.

python scripts/summary.py checkpoint/digits/preresnet.resnet18_lif_quickstart
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch


def best_accuracy(log: Path) -> tuple[float, int]:
    """Return the best test accuracy (percent) in a training log and its epoch, from 1."""
    names, *rows = (line.rstrip("\t").split("\t") for line in log.read_text().splitlines())
    accuracies = [float(row[names.index("Valid Acc.")]) for row in rows]
    best = max(accuracies)
    return best, accuracies.index(best) + 1


def average_rate(rates: Path) -> float:
    """Return the firing rate (spikes per neuron and step, 0 to 1), averaged over the layers."""
    layers = torch.load(rates, weights_only=True)
    return sum(float(rate) for rate in layers.values()) / len(layers)


def summary(stem: str) -> list[str]:
    """Return the summary, in lines, of the run whose files begin with `stem`."""
    accuracy, epoch = best_accuracy(Path(f"{stem}.txt"))
    rate = average_rate(Path(f"{stem}_firing_rate.dict"))
    report = f"{stem}_best_report.html"
    return [
        f"Test accuracy         {accuracy:.2f} % (best epoch: {epoch})",
        f"Average firing rate   {100 * rate:.2f} % of the steps, mean over the layers",
        f"Log                   {stem}.txt",
        f"Curves                {stem}.pdf",
        f"Best checkpoint       {stem}_best.pth",
        *([f"Report                {report}"] if Path(report).exists() else []),
    ]


def main() -> None:
    """Print the summary of the run that the command line names; exit with 2 without its files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stem", help="path and common start of the names of the run's files")
    try:
        print("\n".join(summary(parser.parse_args().stem)))
    except FileNotFoundError as error:
        print(f"error: {error.filename}: no such file; evaluate the run first", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
