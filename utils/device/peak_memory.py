"""The most memory that this process has held."""

from __future__ import annotations

import sys

import torch


def peak_memory(device: torch.device) -> int:
    """Return the peak in bytes: of the GPU's memory allocated, or of the process's own memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # which Windows lacks

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
