"""Loss and accuracies, summed on the device and copied to the host only when read."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from utils.device.host_copy import HostCopy
from utils.distributed.world import World


class Scores(NamedTuple):
    """Mean loss and accuracies in percent over `samples` samples."""

    loss: float
    top1: float
    top5: float
    samples: int

    def __str__(self) -> str:
        return (
            f"loss {self.loss:.4f}, top-1 {self.top1:.2f} %, top-5 {self.top5:.2f} % "
            f"of {self.samples:,} samples"
        )


class EpochResult(NamedTuple):
    """The outcome of one epoch; `is_best` if its test accuracy is the highest so far.

    `seconds` is the duration of the epoch, `speed` the training images per second, of all ranks.
    `ema` are the scores of the averaged weights, None without `--ema`, and `ema_is_best` is about
    them.
    """

    learning_rate: float
    train: Scores
    test: Scores
    is_best: bool
    seconds: float
    speed: float
    ema: Scores | None = None
    ema_is_best: bool = False


class Meter:
    """Running sums of loss, hits and samples; adding a batch does not synchronize the device."""

    def __init__(self, device: torch.device) -> None:
        self.totals = torch.zeros(4, dtype=torch.float64, device=device)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: its mean `loss` (0-dim), `logits` (N, classes), `labels` (N,)."""
        samples = len(labels)
        top1, top5 = hits(logits, labels)
        count = torch.full((), samples, device=loss.device)
        self.totals += torch.stack([loss.double() * samples, top1, top5, count])

    def merge(self, other: Meter, condition: Tensor | None = None) -> None:
        """Add the sums of `other`, if `condition` (0-dim, on the device) holds."""
        zero = torch.zeros_like(other.totals)
        self.totals += (
            other.totals if condition is None else torch.where(condition, other.totals, zero)
        )

    def loss(self) -> Tensor:
        """Return the mean loss so far, 0-dim, on the device."""
        return self.totals[0] / self.totals[3]

    def count(self) -> int:
        """Return the number of samples on this rank; synchronizes the device."""
        return int(self.totals[3])

    def copy_to_host(self) -> ScoresCopy:
        """Return the scores of this rank, on their way to the host."""
        return ScoresCopy(self.totals)

    def reduce(self, world: World) -> Scores:
        """Return the scores over all ranks; a collective."""
        return _scores(world.all_reduce_sum(self.totals.clone()))


class ScoresCopy(HostCopy):
    """The scores of one rank, on their way to the host."""

    def read(self) -> Scores:
        """Return the scores, waiting for the device if it has not computed them yet."""
        return _scores(super().read())


def hits(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return for how many of `labels` (N,) the logit is the largest, and among the five largest."""
    correct = ranked(logits) == labels[:, None]
    return correct[:, 0].sum(), correct.sum()


def ranked(logits: Tensor) -> Tensor:
    """Return the classes of the five largest `logits` (N, classes), or of all, in that order."""
    return logits.topk(min(5, logits.shape[1]), dim=1).indices


def _scores(totals: Tensor) -> Scores:
    loss, top1, top5, samples = totals.tolist()
    count = max(samples, 1)  # a rank may have no test sample
    return Scores(loss / count, 100 * top1 / count, 100 * top5 / count, int(samples))
