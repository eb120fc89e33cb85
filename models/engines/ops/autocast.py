"""Mixed precision of plain tensors: torch's autocast, also on the `meta` device, which it lacks."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager:
    """Return a context in which convolutions and linear maps compute in `dtype`, None for none."""
    if device.type != "meta":
        return torch.autocast(device.type, dtype, enabled=dtype is not None)
    return nullcontext() if dtype is None else _CastOperands(dtype)


class _CastOperands(TorchFunctionMode):
    """Casts the operands of convolutions and linear maps, which is what autocast does to them."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (F.conv2d, F.linear):
            args = [a.to(self.dtype) if isinstance(a, Tensor) else a for a in args]
        return func(*args, **(kwargs or {}))
