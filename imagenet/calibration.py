"""Thresholds for an SNN, taken from the pre-activations of an ANN."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from models.thresholds import recording_points
from utils.datasets.loader import Batch

QUANTILE = 0.999


def tail(count: int) -> int:
    """Return how many of `count` values are at or above their quantile, including itself."""
    return count - int(QUANTILE * count)


class UpperQuantile:
    """The exact quantile of `relu(x)` over all values of a stream, of which it keeps the largest.

    It is the element `int(0.999 * n)` of the n values in ascending order. A thousandth of the
    values of `images` images, the most that may be added, is kept.
    """

    def __init__(self, images: int) -> None:
        self.images, self.count = images, 0
        self.largest: Tensor | None = None  # descending

    def add(self, values: Tensor) -> None:
        """Add the pre-activations `(N, ...)` of N images."""
        room = tail(values[0].numel() * self.images)
        self.count += values.numel()
        values = values.detach().flatten().relu()
        if self.largest is not None:
            if len(self.largest) == room:
                values = values[values > self.largest[-1]]
            values = torch.cat([self.largest, values])
        self.largest = values.topk(min(room, len(values))).values

    def value(self) -> Tensor:
        """Return the quantile, 0-dim."""
        return self.largest[tail(self.count) - 1].clone()


@torch.no_grad()
def calibrate(ann: nn.Module, batches: Iterable[Batch], images: int) -> dict[str, Tensor]:
    """Return the thresholds for an SNN like `ann`, from at most `images` images in `batches`.

    Their names are such as `layer1[0].storein1`, their values 0-dim tensors on the CPU in the
    network's dtype. Raises ValueError where there is no image.
    """
    quantiles = {name: UpperQuantile(images) for name in recording_points(ann)}
    ann.eval()
    with _recording(ann, quantiles):
        for pixels, _ in batches:
            ann(pixels)
    if not all(quantile.count for quantile in quantiles.values()):
        raise ValueError("there is no image to take thresholds from")
    return {name: quantile.value().cpu() for name, quantile in quantiles.items()}


@contextmanager
def _recording(ann: nn.Module, quantiles: dict[str, UpperQuantile]) -> Iterator[None]:
    """Add the inputs of each ReLU of `ann` to its quantile within the block."""

    def record(quantile: UpperQuantile, relu: nn.Module, inputs: tuple[Tensor]) -> None:
        quantile.add(inputs[0])

    hooks = [
        relu.register_forward_pre_hook(partial(record, quantiles[name]))
        for name, relu in recording_points(ann).items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
