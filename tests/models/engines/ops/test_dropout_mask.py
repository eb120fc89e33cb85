"""The masks of dropout: their share, their order in memory, and their independence."""

from __future__ import annotations

import pytest
import torch

from models.engines.folded.spike_train import channels_last
from models.engines.ops.dropout_mask import draw_mask


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_masks_keep_their_share(p: float) -> None:
    torch.manual_seed(1)
    like = channels_last(torch.zeros(40, 10, 25, 25))
    keep, kept = draw_mask(like, p)
    assert kept == pytest.approx(1 - p, abs=2**-17) and keep.stride() == like.stride()
    bits = keep.permute(0, 2, 3, 1).flatten().double()  # in the order of drawing
    for part in (bits, *bits.view(-1, 4).t()):
        assert part.mean() == pytest.approx(kept, abs=5 * (p * (1 - p) / len(part)) ** 0.5)
    neighbours = torch.corrcoef(bits.view(-1, 4).t()) - torch.eye(4, dtype=torch.float64)
    assert neighbours.abs().max() < 5 / (len(bits) / 4) ** 0.5


def test_a_probability_close_to_one_drops_nearly_everything() -> None:
    keep, kept = draw_mask(torch.zeros(1000), 0.999999)
    assert kept == 2**-16 and keep.sum() < 5
