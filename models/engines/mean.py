"""The mean engine: a network on means over time, plain tensors of batch N.

In evaluation mode everything between two neuron layers is affine, so the weighted means of the
spike trains that feed a neuron layer determine the weighted mean of its input. The neurons
themselves are not: something else must stand in their place (see `models.recording.means`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from models.dynamics import Dynamics, weighted_mean


@dataclass(frozen=True)
class MeanEngine:
    """Presents weighted means over time; `dynamics` has the weights."""

    dynamics: Dynamics

    def forward_context(self, device: torch.device) -> AbstractContextManager:
        """Return the context in which a network's forward pass runs: full precision."""
        return torch.autocast(device.type, enabled=False)

    def present(self, images: Tensor) -> Tensor:
        """Return images `(N, C, H, W)`, or the mean of frames `(N, T, C, H, W)`, `(N, C, H, W)`."""
        return images if images.dim() == 4 else weighted_mean(images.transpose(0, 1), self.dynamics)

    def readout(self, representation: Tensor, d: Dynamics) -> Tensor:
        """Return the representation `(N, classes)` unchanged."""
        return representation
