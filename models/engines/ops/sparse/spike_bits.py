"""Spike trains stored eight spikes to a byte."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.engines.ops.sparse import events


@dataclass(frozen=True)
class SpikeBits:
    """Zeros and ones `(B, C, ...)`, channels last; bit `i` of `bits` stands for value `i`."""

    bits: Tensor
    shape: torch.Size
    dtype = torch.uint8  # of the unpacked values

    @classmethod
    def pack(cls, values: Tensor) -> SpikeBits | None:
        """Pack bytes; return None unless they lie channels last and rows of channels fill bytes."""
        if values.shape[1] % 8 or not events.channels_last(values):
            return None
        return cls(events.pack_bits(values), values.shape)

    def unpack(self) -> Tensor:
        """Return the values in bytes."""
        return events.unpack_bits(self.bits, self.shape)

    def dim(self) -> int:
        """Return the number of dimensions of the values."""
        return len(self.shape)
