"""Learning rates as a function of where training stands, so that resuming cannot shift them."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Half a cosine from `lr` to 0 over `epochs`, after `warmup` iterations of linear rise."""

    lr: float
    epochs: int
    warmup: int = 0

    def cosine(self, epoch: int) -> float:
        """Return the learning rate of `epoch` (from 0) once warm-up is over."""
        return 0.5 * self.lr * (1 + math.cos(math.pi * epoch / self.epochs))

    def at(self, epoch: int, iteration: int) -> float:
        """Return the learning rate of one step; `iteration` counts from 0 over all epochs."""
        warmth = (iteration + 1) / self.warmup if iteration < self.warmup else 1.0
        return self.cosine(epoch) * warmth
