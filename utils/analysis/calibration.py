"""Calibration: how far the confidence of predictions is from their accuracy.

Expected calibration error over bins of equal width: Guo et al., On Calibration of Modern Neural
Networks, ICML 2017.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BINS = 15


class Bin(NamedTuple):
    """Predictions whose confidence is above `low` and at most `high`, with their means."""

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


def reliability(confidences: Tensor, correct: Tensor, bins: int = BINS) -> list[Bin]:
    """Return the bins that are not empty, from confidences and correctness of images `(n,)`."""
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    index = torch.bucketize(confidences.double(), edges[1:-1])
    found = []
    for b in index.unique().tolist():
        inside = index == b
        confidence = confidences[inside].double().mean().item()
        accuracy = correct[inside].double().mean().item()
        low, high = edges[b].item(), edges[b + 1].item()
        found.append(Bin(low, high, int(inside.sum()), confidence, accuracy))
    return found


def expected_calibration_error(bins: list[Bin]) -> float:
    """Return the mean over all images of `|accuracy - confidence|` of their bin."""
    images = sum(b.images for b in bins)
    return sum(b.images * abs(b.accuracy - b.confidence) for b in bins) / images
