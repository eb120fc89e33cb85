"""Memory that one layer uses after the other."""

import torch

from models.engines.ops.sparse.scratch import Scratch


def test_the_buffer_is_used_again_and_grows() -> None:
    scratch = Scratch()
    first = scratch.take((3, 5), torch.float64).fill_(1.0)
    place = first.data_ptr()
    assert first.is_contiguous() and first.shape == (3, 5)
    second = scratch.take((4, 2), torch.float32)
    assert second.data_ptr() == place and second.dtype == torch.float32
    larger = scratch.take((100, 100), torch.float32).fill_(2.0)
    assert larger.shape == (100, 100)
    assert (first == 1.0).all()  # what was taken before stays alive
    scratch.release()
    assert scratch.take((2, 2), torch.float32).shape == (2, 2)
