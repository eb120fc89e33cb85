"""The options of the folded engine."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from models.engines.ops.dispatch import Kernels
from models.engines.ops.dropout_mask import MaskSource, draw_mask
from models.engines.ops.sparse.event_driven import Crossings
from models.engines.ops.sparse.scratch import Scratch
from models.engines.ops.sync_batch_norm import Reduction, local


@dataclass(frozen=True)
class FoldedOptions:
    """Options of the folded engine, carried by every spike train.

    `dtype` is the type of operands, None for the parameters' type. `approximate` drops the temporal
    covariances of convolution weights (the `rate` engine). `reduce` sums over the ranks that share
    a BatchNorm. `draw_mask` draws dropout masks. `crossings` tell when linear maps of spikes are
    computed event-driven; None for dense computation only. `scratch` holds the current of one layer
    of a training step after the other.
    """

    timesteps: int
    kernels: Kernels
    dtype: torch.dtype | None = None
    approximate: bool = False
    reduce: Reduction = local
    draw_mask: MaskSource = draw_mask
    crossings: Crossings | None = None
    scratch: Scratch = field(default_factory=Scratch, compare=False)

    def spike_dtype(self, compute: torch.dtype) -> torch.dtype:
        """Return the type in which spikes are stored: bytes, or as the dense computation has it."""
        return self.count_dtype(compute, 1)

    def count_dtype(self, compute: torch.dtype, most: int) -> torch.dtype:
        """Return the type in which counts up to `most` are stored."""
        return torch.uint8 if self.crossings is not None and most < 256 else compute
