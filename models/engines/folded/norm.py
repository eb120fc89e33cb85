"""The BatchNorm of a current."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.engines.ops import sync_batch_norm
from models.engines.ops.reference import Affine, Statistics
from models.engines.ops.sync_batch_norm import Reduction


@dataclass
class Norm:
    """The arguments of `torch.nn.functional.batch_norm`."""

    running_mean: Tensor | None
    running_var: Tensor | None
    gamma: Tensor
    beta: Tensor
    training: bool
    momentum: float
    eps: float

    def affine(self, batch: Statistics | None, samples: int, reduce: Reduction) -> Affine:
        """Return the affine map of the normalisation and update the running statistics.

        `batch` has the statistics of this rank's current, None in evaluation; `samples` is the
        number of values per channel that they stand for (T*N*H*W, also for a static current).
        Raises `ValueError` for a single value.
        """
        if batch is None:
            mean, var = self.running_mean, self.running_var
        else:
            mean, var = batch.mean, batch.var
            if reduce is not sync_batch_norm.local:
                mean, var, samples = sync_batch_norm.all_reduce_statistics(mean, var, samples)
            elif samples == 1:
                raise ValueError(
                    "a BatchNorm in training needs more than 1 value per channel: "
                    "use a larger batch or more timesteps"
                )
            if self.running_mean is not None:
                running = self.running_mean, self.running_var
                sync_batch_norm.update_running_statistics(
                    *running, mean, var, samples, self.momentum
                )
        # Detached: torch.compile would make a kernel for every layer width of bare parameters.
        return Affine(mean, torch.rsqrt(var + self.eps), self.gamma.detach(), self.beta.detach())
