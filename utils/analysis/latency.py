"""Accuracy against the number of timesteps, and images that stop early.

The neurons are causal: what a network says after t of T steps is what the same network with t
timesteps says. One pass over T steps therefore gives the accuracy after each of them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from utils.analysis.measurements import Measurements

CONFIDENCES = tuple(i / 50 for i in range(51))  # thresholds of the curve over early stops


class EarlyStop(NamedTuple):
    """Each image stops at the first step at which its softmax confidence reaches `confidence`.

    `accuracy` is in percent, `mean_steps` over the images, `stopped` counts the images by step;
    `operations` are the weights that spikes met up to there, per image.
    """

    confidence: float
    accuracy: float
    mean_steps: float
    stopped: list[int]
    operations: float


def accuracy_by_step(m: Measurements) -> list[float]:
    """Return the accuracy in percent after 1 to T steps."""
    correct = (m.predictions == m.labels).sum(1)
    return [100 * hits / m.images for hits in correct.tolist()]


def operations_by_step(m: Measurements) -> list[float]:
    """Return how many weights the spikes of an image have met after 1 to T steps."""
    return [total / m.images for total in m.operations.sum(1).cumsum(0).tolist()]


def early_stop(m: Measurements, confidence: float) -> EarlyStop:
    """Return accuracy and cost where each image stops at a `confidence`, at the latest after T."""
    stops = stopping_steps(m.confidences, confidence)
    last = (stops - 1)[None]
    correct = m.predictions.gather(0, last)[0] == m.labels
    operations = m.operations.cumsum(0).gather(0, last)
    return EarlyStop(
        confidence,
        100 * int(correct.sum()) / m.images,
        int(stops.sum()) / m.images,
        torch.bincount(stops, minlength=m.timesteps + 1)[1:].tolist(),
        int(operations.sum()) / m.images,
    )


def stopping_steps(confidences: Tensor, confidence: float) -> Tensor:
    """Return the step, 1 to T, after which each of the images `(T, n)` stops, `(n,)`."""
    reached = confidences >= confidence
    reached[-1] = True
    return reached.int().argmax(0) + 1
