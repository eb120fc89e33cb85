"""Learning rates as a function of where training stands, so that resuming cannot shift them."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Half a cosine from `lr` to 0 over `epochs`, after `warmup` iterations of linear rise.

    With `first_epoch_only` the rise ends with the first epoch, however short that is.
    """

    lr: float
    epochs: int
    warmup: int = 0
    first_epoch_only: bool = False

    def cosine(self, epoch: int) -> float:
        """Return the learning rate of `epoch` (from 0) once warm-up is over."""
        return 0.5 * self.lr * (1 + math.cos(math.pi * epoch / self.epochs))

    def at(self, epoch: int, iteration: int) -> float:
        """Return the learning rate of one step; `iteration` counts from 0 over all epochs."""
        rising = iteration < self.warmup and not (self.first_epoch_only and epoch > 0)
        return self.cosine(epoch) * ((iteration + 1) / self.warmup if rising else 1.0)
