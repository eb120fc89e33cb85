"""Memory that is used by one neuron layer after the other."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Scratch:
    """A buffer that grows to the largest tensor taken from it.

    A tensor may be used until the next one is taken. Allocated one by one, currents of T steps
    would not fit into the memory that the one before has freed, since smaller tensors that are kept
    for the backward pass take some of it.
    """

    def __init__(self) -> None:
        self._buffer: Tensor | None = None

    def take(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a contiguous tensor on the CPU; its values are not initialised."""
        size = math.prod(shape) * dtype.itemsize
        if self._buffer is None or self._buffer.numel() < size:
            self._buffer = None  # free it first
            self._buffer = torch.empty(size, dtype=torch.uint8, device="cpu")
        return self._buffer[:size].view(dtype).view(shape)

    def release(self) -> None:
        """Free the memory."""
        self._buffer = None
