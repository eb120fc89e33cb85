"""How the folded engine computes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from models.engines.ops.dispatch import Kernels
from models.engines.ops.dropout_mask import MaskSource, draw_mask
from models.engines.ops.sync_batch_norm import Reduction, local


@dataclass(frozen=True)
class FoldedOptions:
    """Options of the folded engine, carried by every spike train.

    `dtype` is the type of operands, None for the parameters' type. `approximate` drops the temporal
    covariances of convolution weights (the `rate` engine). `reduce` sums over the ranks that share
    a BatchNorm. `draw_mask` draws dropout masks.
    """

    timesteps: int
    kernels: Kernels
    dtype: torch.dtype | None = None
    approximate: bool = False
    reduce: Reduction = local
    draw_mask: MaskSource = draw_mask
