"""Prints what a training run reached, read from the files it wrote: `summary.py STEM`.

STEM is the common start of the run's files, e.g. checkpoint/digits/preresnet.resnet18_lif.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch


def best_accuracy(log: Path) -> tuple[float, int]:
    """Return the best test accuracy (percent) in a training log and its epoch, from 1."""
    names, *rows = (line.rstrip("\t").split("\t") for line in log.read_text().splitlines())
    accuracies = [float(row[names.index("Valid Acc.")]) for row in rows]
    best = max(accuracies)
    return best, accuracies.index(best) + 1


def average_rate(rates: Path) -> float:
    """Return the mean over the layers of a firing-rate file's rates (spikes a step, 0 to 1)."""
    layers = torch.load(rates, weights_only=True)
    return sum(float(rate) for rate in layers.values()) / len(layers)


def summary(stem: str) -> list[str]:
    """Return the lines that sum up the run whose files start with `stem`."""
    accuracy, epoch = best_accuracy(Path(f"{stem}.txt"))
    rate = average_rate(Path(f"{stem}_firing_rate.dict"))
    return [
        f"Test accuracy         {accuracy:.2f} % (best epoch: {epoch})",
        f"Average firing rate   {100 * rate:.2f} % of the steps, mean over the layers",
        f"Log                   {stem}.txt",
        f"Curves                {stem}.pdf",
        f"Best checkpoint       {stem}_best.pth",
    ]


def main() -> None:
    """Print the summary of the run named on the command line."""
    parser = argparse.ArgumentParser(description="Sum up a training run.")
    parser.add_argument("stem", help="common start of the run's files")
    print("\n".join(summary(parser.parse_args().stem)))


if __name__ == "__main__":
    main()
