"""Memory that one layer uses after the other."""

import copy
import sys

import pytest
import torch

from models.engines.ops.sparse import scratch as module
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


@pytest.mark.skipif(sys.platform != "linux", reason="large memory is in the heap there")
def test_large_memory_shrinks_and_is_given_back(monkeypatch) -> None:
    trims = []
    monkeypatch.setattr(module, "LARGE", 4 << 20)
    monkeypatch.setattr(module, "_trim_heap", lambda: trims.append(1))
    scratch = Scratch()
    for _ in range(2):
        wide = scratch.take((6 << 20,), torch.uint8).fill_(1)
        narrow = scratch.take((1 << 20,), torch.uint8)
        assert narrow.data_ptr() == wide.data_ptr()
        assert narrow.all() and not wide[2 << 20 :].any()  # the rest went to the system
        scratch.release()
        assert narrow.all()  # while a tensor uses it, it lives
    assert len(trims) == 2  # once for each forward pass
    small = Scratch()
    place = small.take((1 << 20,), torch.uint8).data_ptr()
    small.release()
    assert small.take((1 << 20,), torch.uint8).data_ptr() == place  # is kept
    assert len(trims) == 2


@pytest.mark.parametrize("fault", ["platform", "mmap"])
def test_without_memory_of_its_own_it_uses_that_of_torch(fault: str, monkeypatch) -> None:
    def refuse(*args, **options):
        raise OSError("Cannot allocate memory")

    monkeypatch.setattr(module, "LARGE", 4 << 20)
    if fault == "platform":
        monkeypatch.setattr(sys, "platform", "darwin")
    else:
        monkeypatch.setattr(module.mmap, "mmap", refuse)
    scratch = Scratch()
    first = scratch.take((6 << 20,), torch.uint8).fill_(1)
    assert scratch.take((1 << 20,), torch.uint8).data_ptr() == first.data_ptr() and first.all()


def test_a_copy_has_memory_of_its_own(monkeypatch) -> None:
    monkeypatch.setattr(module, "LARGE", 4 << 20)
    scratch = Scratch()
    values = scratch.take((6 << 20,), torch.uint8)
    assert copy.deepcopy(scratch).take((6 << 20,), torch.uint8).data_ptr() != values.data_ptr()
