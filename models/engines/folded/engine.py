"""The folded engine: exact DSR gradients from tensors of batch N (docs/method.md, section 4)."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from models.dynamics import Dynamics
from models.engines.folded import autograd as grad
from models.engines.folded import torch_functions  # noqa: F401  (importing fills the table)
from models.engines.folded.options import FoldedOptions
from models.engines.folded.spike_train import SpikeTrain, channels_last
from models.engines.ops.autocast import autocast


class FoldedEngine(FoldedOptions):
    """Computes spike trains without a graph over time; the counterpart of `UnrolledEngine`."""

    def forward_context(self, device: torch.device) -> AbstractContextManager:
        """Return the context in which a network's forward pass runs."""
        return autocast(device, None)  # spike trains choose their own types

    def present(self, images: Tensor) -> SpikeTrain:
        """Return the input spike train of images `(N, C, H, W)` or frames `(N, T, C, H, W)`."""
        images = images.to(self.dtype or images.dtype)
        if images.dim() == 4:
            return SpikeTrain(self, channels_last(images), static=True)
        return SpikeTrain(self, channels_last(images.transpose(0, 1).flatten(0, 1)))

    def readout(self, train: SpikeTrain, d: Dynamics) -> Tensor:
        """Return the representation `sum_t v_t s_t`, `(N, classes)`.

        Raises `TypeError` for anything but a spike train.
        """
        if not isinstance(train, SpikeTrain):
            raise TypeError(
                "readout takes the output of a neuron layer, possibly pooled or flattened: "
                f"put one before it, not {type(train).__name__}"
            )
        steps = train.scaled().unflatten(0, (self.timesteps, -1))
        representation = self.kernels.weighted_mean(steps, d)
        if train.handle is None:
            return representation
        self.scratch.release()
        return grad.Readout.apply(train.handle, representation, d)
