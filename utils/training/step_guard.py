"""Leave out optimizer steps whose gradients are not finite, without waiting for the device."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from utils.device.host_copy import HostCopy
from utils.distributed.world import World
from utils.training.metrics import Meter
from utils.training.state import TrainState


class TakenStep(NamedTuple):
    """A step of which the host does not know yet whether its gradients were finite.

    `norms` are that of all gradients, plus the loss, and the largest magnitude in each of those of
    the parameters `names`; `buffers` are copies of the model's, made before the step.
    """

    position: str
    images: Tensor
    norms: HostCopy
    names: tuple[str, ...]
    buffers: list[Tensor]


class RejectedStep(NamedTuple):
    """A step that was left out, and the parameters whose gradients were not finite."""

    position: str
    images: Tensor
    parameters: list[str]


class StepGuard:
    """Takes optimizer steps that have no effect where gradients are not finite.

    The device decides, and the host reads the decision one step later, if the optimizer is fused
    (see `optimizer.build`). With `keep_buffers`, the buffers can be restored as well.
    """

    def __init__(self, state: TrainState, world: World, keep_buffers: bool = False) -> None:
        self.state, self.world, self.keep_buffers = state, world, keep_buffers
        self.buffers: list[Tensor] = []
        self.taken: TakenStep | None = None

    def before_step(self) -> None:
        """Copy the buffers, before the forward pass changes them."""
        if self.keep_buffers:
            self.buffers = [buffer.clone() for buffer in self.state.model.buffers()]

    def take_step(self, images: Tensor, meter: Meter, position: str) -> None:
        """Update parameters by their gradients and merge the `meter` of the batch, if finite."""
        state = self.state
        gradients = {n: p.grad for n, p in state.model.named_parameters() if p.grad is not None}
        norm = get_total_norm(list(gradients.values()))
        # Averaged gradients are the same on all ranks, which therefore decide alike.
        total = norm if self.world.size > 1 else norm + meter.loss()
        finite = total.isfinite()
        if is_fused := state.optimizer.param_groups[0].get("fused"):
            state.optimizer.found_inf = finite.logical_not().float()
        if is_fused or finite.is_meta or finite:  # the last one waits for the device
            state.optimizer.step()
        if state.ema:
            state.ema.update(state.model, finite)
        state.meter.merge(meter, finite)
        largest = torch._foreach_norm(list(gradients.values()), math.inf)
        norms = HostCopy(torch.stack([total, *largest]))
        self.taken = TakenStep(position, images, norms, tuple(gradients), self.buffers)

    def rejected(self) -> RejectedStep | None:
        """Return the last step if it was left out; the host reads this once per step."""
        taken = self.taken
        if taken is None:
            return None
        total, *largest = taken.norms.read().tolist()
        if math.isfinite(total):
            self.taken = None
            return None
        names = zip(taken.names, largest, strict=True)
        wrong = [name for name, value in names if not math.isfinite(value)]
        return RejectedStep(taken.position, taken.images, wrong)

    def restore_buffers(self) -> None:
        """Undo what the rejected step and later forward passes did to the buffers."""
        self.buffers, self.taken = self.taken.buffers, None
        for buffer, before in zip(self.state.model.buffers(), self.buffers, strict=True):
            buffer.copy_(before)
