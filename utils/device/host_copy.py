"""Read small tensors from a device without waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor


class HostCopy:
    """A copy of a tensor on its way to the host; later changes of the tensor do not affect it."""

    def __init__(self, tensor: Tensor) -> None:
        self._event = None
        if tensor.device.type == "cuda":
            self._values = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._values.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(tensor.device))
        else:
            self._values = tensor.detach().clone()

    def read(self) -> Tensor:
        """Return the values on the host, waiting for the device if it has not come so far."""
        if self._event is not None:
            self._event.synchronize()
        return self._values
