"""Spikes packed eight to a byte."""

import shutil

import pytest
import torch

from models.engines.ops import native_build
from models.engines.ops.sparse.spike_bits import SpikeBits

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, native_build.COMPILERS)), reason="no C++ compiler"
)


@pytest.mark.parametrize("shape", [(3, 16, 5, 4), (7, 8), (0, 8, 2, 2)])
def test_bits_hold_the_spikes(shape) -> None:
    values = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.3).to(torch.uint8)
    if len(shape) == 4:
        values = values.contiguous(memory_format=torch.channels_last)
    packed = SpikeBits.pack(values)
    assert packed.bits.numel() == values.numel() // 8 and packed.dim() == len(shape)
    unpacked = packed.unpack()
    assert torch.equal(unpacked, values) and unpacked.stride() == values.stride()


def test_what_does_not_fill_bytes_is_left_alone() -> None:
    assert SpikeBits.pack(torch.ones(2, 12, dtype=torch.uint8)) is None
    assert SpikeBits.pack(torch.ones(2, 8, 3, 3, dtype=torch.uint8)) is None
