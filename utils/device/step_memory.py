"""Memory of a step, counted on the `meta` device: nothing is computed, nothing allocated."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from utils.device.operation_counter import OperationCounter

GRANULE = 512  # bytes to whose multiples CUDA's allocator rounds up
LEAST = 2  # images: a BatchNorm needs two values per channel


def copy_to_meta(model: nn.Module) -> nn.Module:
    """Return a copy of `model` on the meta device, without allocating memory."""
    memo: dict[int, object] = {}
    for parameter in model.parameters():
        values = torch.empty_like(parameter, device="meta")
        memo[id(parameter)] = nn.Parameter(values, requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(model, memo)


def count_training_step(
    model: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer, parts: int = 1
) -> OperationCounter:
    """Return the counts of a step with these `images`, presented in `parts`, on any device.

    Everything that the step holds is counted: parameters, buffers, gradients, the state of the
    optimizer, images and labels. The update is left out: it allocates nothing where it is fused,
    which it cannot be on meta.
    """
    model.train()
    if not optimizer.state:  # it is created in the first step
        _compute_gradients(model, images[:LEAST], labels[:LEAST])
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    resident = [*model.parameters(), *model.buffers(), *_states(optimizer), images, labels]
    with OperationCounter(resident, GRANULE) as counter:
        for x, y in zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True):
            _compute_gradients(model, x, y)
    return counter


@torch.no_grad()
def count_evaluation(model: nn.Module, images: Tensor) -> OperationCounter:
    """Return the counts of a forward pass in evaluation mode, on any device."""
    model.eval()
    with OperationCounter([*model.parameters(), *model.buffers(), images], GRANULE) as counter:
        model(images)
    return counter


def largest_batch(peak: Callable[[int], int], room: float) -> int:
    """Return the largest number of images whose `peak` bytes fit in `room`, 0 if not `LEAST` do.

    `peak` increases, almost in proportion to the images.
    """
    fits, need = LEAST, peak(LEAST)
    if need > room:
        return 0
    fails, probe = None, 2 * LEAST
    while fails is None or fails - fits > 1:
        probed = peak(probe)
        each = max(1.0, (probed - need) / (probe - fits))
        if probed <= room:
            fits, need = probe, probed
        else:
            fails = probe
        probe = max(fits + 1, fits + int((room - need) / each))
        probe = min(probe, fails - 1) if fails else probe
    return fits


def _compute_gradients(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    F.cross_entropy(model(images), labels).backward()


def _states(optimizer: Optimizer) -> Iterator[Tensor]:
    values = (value for state in optimizer.state.values() for value in state.values())
    return (value for value in values if isinstance(value, Tensor))
