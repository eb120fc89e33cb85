"""Loss and accuracies, summed on the device and read only when someone looks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from utils.distributed.world import World


class Scores(NamedTuple):
    """Mean loss and accuracies in percent over `samples` samples."""

    loss: float
    top1: float
    top5: float
    samples: int


class Meter:
    """Running sums of loss, hits and samples; adding a batch never waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self.totals = torch.zeros(4, dtype=torch.float64, device=device)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: its mean `loss` (0-dim), `logits` (N, classes), `labels` (N,)."""
        samples = len(labels)
        top1, top5 = hits(logits, labels)
        count = torch.full((), samples, device=loss.device)
        self.totals += torch.stack([loss.double() * samples, top1, top5, count])

    def merge(self, other: Meter) -> None:
        """Add what `other` has added up."""
        self.totals += other.totals

    def loss(self) -> Tensor:
        """Return the mean loss so far, 0-dim, on the device."""
        return self.totals[0] / self.totals[3]

    def count(self) -> int:
        """Return how many samples this process has added; waits for the device."""
        return int(self.totals[3])

    def local(self) -> Scores:
        """Return this process's scores so far; waits for the device."""
        return _scores(self.totals)

    def reduce(self, world: World) -> Scores:
        """Return the scores over all processes; each of them must call it."""
        return _scores(world.all_reduce_sum(self.totals.clone()))


def hits(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many of `labels` (N,) are the first, and among the first five, of `logits`."""
    ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices  # (N, 5)
    correct = ranked == labels[:, None]
    return correct[:, 0].sum(), correct.sum()


def _scores(totals: Tensor) -> Scores:
    loss, top1, top5, samples = totals.tolist()
    count = max(samples, 1)  # a process may hold no test sample at all
    return Scores(loss / count, 100 * top1 / count, 100 * top5 / count, int(samples))
