"""Memory that is used by one neuron layer after the other."""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import sys

import torch
from torch import Tensor

LARGE = 64 << 20  # bytes from which on saving memory is worth the page faults
_PAGE = 2 << 20  # a huge page


class Scratch:
    """A buffer that grows to the largest tensor taken from it.

    A tensor may be used until the next one is taken. If each current
    were allocated anew, it would rarely fit where the one before was: smaller tensors, kept for the
    backward pass, would have taken some of that memory.

    Where it is large and the system is Linux, it lies outside the heap, shrinks with the currents,
    and is given back by `release`, together with what the heap has free when a forward pass begins.
    That takes a third off the peak of a training step, and costs a few percent of its time.
    """

    def __init__(self) -> None:
        self._buffer: Tensor | None = None
        self._pages: mmap.mmap | None = None

    def __reduce__(self) -> tuple:
        return Scratch, ()  # a copy of a network has memory of its own

    def take(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a contiguous tensor on the CPU; its values are not initialised."""
        size = math.prod(shape) * dtype.itemsize
        if self._buffer is None or self._buffer.numel() < size:
            self._buffer = self._pages = None  # free it first
            self._allocate(size)
        elif self._pages is not None and (end := _round_up(size)) < len(self._pages):
            self._pages.madvise(mmap.MADV_DONTNEED, end)
        return self._buffer[:size].view(dtype).view(shape)

    def release(self) -> None:
        """Free the memory at the end of a forward pass, if it is large and no tensor uses it."""
        if self._pages is not None:
            self._buffer = self._pages = None

    def _allocate(self, size: int) -> None:
        if size >= LARGE and sys.platform == "linux":
            _trim_heap()
            with contextlib.suppress(OSError):  # torch then says that there is no memory
                self._pages = _map(_round_up(size))
                self._buffer = torch.frombuffer(self._pages, dtype=torch.uint8)
                return
        self._buffer = torch.empty(size, dtype=torch.uint8, device="cpu")


def _map(size: int) -> mmap.mmap:
    """Return memory from the system, in huge pages if it has them."""
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return pages


def _trim_heap() -> None:
    """Return the free pages of the heap to the system, where the C library offers that.

    A forward pass would otherwise spread over all that the backward pass before it has used.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _round_up(size: int) -> int:
    return -(-size // _PAGE) * _PAGE
