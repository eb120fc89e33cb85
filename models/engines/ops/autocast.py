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
    """Casts the operands of convolutions and linear maps as autocast does.

    Cast parameters are kept until the end of the context.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.parameters: dict[Tensor, Tensor] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (F.conv2d, F.linear):
            # From the last to the first, as autocast; gradients pass them the other way round.
            args = [self._cast(a) if isinstance(a, Tensor) else a for a in reversed(args)][::-1]
        return func(*args, **(kwargs or {}))

    def _cast(self, operand: Tensor) -> Tensor:
        if not (operand.is_leaf and operand.requires_grad):
            return operand.to(self.dtype)
        if operand not in self.parameters:
            self.parameters[operand] = operand.to(self.dtype)
        return self.parameters[operand]
