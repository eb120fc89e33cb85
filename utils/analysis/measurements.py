"""What one pass over the test data measures of a spiking network, summed over images and ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor

from utils.training.metrics import Scores


@dataclass(frozen=True)
class LayerSums:
    """Sums of one neuron layer over `images` images.

    `has_fired` `(C, ...)` marks the neurons that fired at all, `spikes_per_step` `(T,)` counts the
    spikes. `silent` and `saturated` count the pairs of neuron and image without a spike, and with
    one at every step. The errors are between representation and ideal representation.
    """

    images: int
    has_fired: Tensor
    spikes_per_step: Tensor
    silent: int
    saturated: int
    error: float
    squared_error: float
    squared_ideal: float

    def __add__(self, other: LayerSums) -> LayerSums:
        return LayerSums(
            self.images + other.images,
            self.has_fired | other.has_fired,
            self.spikes_per_step + other.spikes_per_step,
            self.silent + other.silent,
            self.saturated + other.saturated,
            self.error + other.error,
            self.squared_error + other.squared_error,
            self.squared_ideal + other.squared_ideal,
        )

    @property
    def neurons(self) -> int:
        """The number of neurons."""
        return self.has_fired.numel()

    @property
    def spikes(self) -> int:
        """The number of spikes."""
        return int(self.spikes_per_step.sum())

    @property
    def rate(self) -> float:
        """The share of neurons, images and steps with a spike."""
        return self.spikes / (self.neurons * self.images * len(self.spikes_per_step))


@dataclass(frozen=True)
class SynapseSums:
    """Operations of one convolution or linear layer.

    `connections` is the number of multiplications of one dense input, of which an image presents
    `presentations`. `sources` are the neuron layers that feed it, none for a dense input;
    `operations` counts over all images how many weights their spikes met.
    """

    layer: str
    connections: int
    presentations: int
    sources: tuple[str, ...]
    operations: int = 0

    @property
    def spiking(self) -> bool:
        """Whether the input is made of spikes."""
        return bool(self.sources)

    def __add__(self, other: SynapseSums) -> SynapseSums:
        return replace(self, operations=self.operations + other.operations)


@dataclass(frozen=True)
class Measurements:
    """Measurements of all test images, in their order.

    `labels` are `(n,)`; `predictions`, `confidences` (the largest softmax probability) and
    `operations` (weights that spikes met at that step) are `(T, n)`, after each number of steps.
    `ideal_predictions` `(n,)` are those of the network of ideal representations.
    """

    layers: dict[str, LayerSums]
    synapses: list[SynapseSums]
    labels: Tensor
    predictions: Tensor
    confidences: Tensor
    operations: Tensor
    ideal_predictions: Tensor

    @property
    def timesteps(self) -> int:
        """The number of timesteps."""
        return len(self.predictions)

    @property
    def images(self) -> int:
        """The number of images."""
        return len(self.labels)


@dataclass(frozen=True)
class Measured:
    """Measurements with the scores of the same pass and the network's thresholds by layer."""

    measurements: Measurements
    scores: Scores
    thresholds: dict[str, float]


def merge(parts: Sequence[Measurements]) -> Measurements:
    """Return the measurements of consecutive parts of the test images, none of them empty."""
    return Measurements(
        layers={name: reduce(_add, [p.layers[name] for p in parts]) for name in parts[0].layers},
        synapses=[reduce(_add, same) for same in zip(*(p.synapses for p in parts), strict=True)],
        labels=torch.cat([p.labels for p in parts]),
        predictions=torch.cat([p.predictions for p in parts], 1),
        confidences=torch.cat([p.confidences for p in parts], 1),
        operations=torch.cat([p.operations for p in parts], 1),
        ideal_predictions=torch.cat([p.ideal_predictions for p in parts]),
    )


def _add(a, b):
    return a + b
