"""Random masks for dropout on spike trains."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# `(like, p) -> (mask, q)`: a bool mask of the shape and memory order of `like` whose entries are
# True with probability q, and q itself, which is 1 - p or close to it.
MaskSource = Callable[[Tensor, float], tuple[Tensor, float]]


def draw_mask(like: Tensor, p: float) -> tuple[Tensor, float]:
    """Draw a mask that is False with probability `p`, to within 2^-17; see `MaskSource`.

    Each random integer of 64 bits makes four entries: one draw per entry took more time than the
    convolutions.
    """
    dropped = min(round(p * 2**16), 2**16 - 1)
    draws = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device)
    bits = draws.random_(-(2**63), None).view(torch.int16)[: like.numel()]
    keep = (bits >= dropped - 2**15).as_strided(like.shape, like.stride())
    return keep, 1 - dropped / 2**16
