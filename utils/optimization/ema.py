"""An exponential moving average of the weights of a model during training."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from utils.distributed.world import running_statistics


class Ema:
    """A copy of `model` whose weights are averages: `decay * average + (1 - decay) * weights`.

    Thresholds are parameters and averaged, too. The running statistics of BatchNorm are averaged
    in the same way, since those of the last steps belong to other weights than the average.
    `acc` and `best_acc` are the accuracies of the last and of the best epoch, in percent.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.acc, self.best_acc = 0.0, 0.0
        self._average = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self, model: nn.Module, is_taken: Tensor | None = None) -> None:
        """Average the weights of `model` in after a step, if `is_taken` (0-dim, on the device)."""
        averages, current = _averaged(self.model), _averaged(model)
        if is_taken is not None:
            pairs = zip(current, averages, strict=True)
            current = [torch.where(is_taken, new, average) for new, average in pairs]
        self._average(averages, current, None)
        self._copy_counters(model)

    @torch.no_grad()
    def restart(self, model: nn.Module) -> None:
        """Begin with the present weights of `model`."""
        for average, new in zip(_averaged(self.model), _averaged(model), strict=True):
            average.copy_(new)
        self._copy_counters(model)

    def advance(self, acc: float) -> bool:
        """Note the accuracy of an epoch; return whether it is the best so far."""
        is_best = acc > self.best_acc
        self.acc, self.best_acc = acc, max(acc, self.best_acc)
        return is_best

    def _copy_counters(self, model: nn.Module) -> None:
        """Copy the buffers that are not real numbers, as the number of batches seen."""
        for own, new in zip(self.model.buffers(), model.buffers(), strict=True):
            if not new.is_floating_point():
                own.copy_(new)


def _averaged(model: nn.Module) -> list[Tensor]:
    """Return the tensors of `model` that are averaged."""
    return [*(p.detach() for p in model.parameters()), *running_statistics(model).values()]
