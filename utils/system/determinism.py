"""Repeatable runs on a GPU; on a CPU they are, with the same number of threads."""

from __future__ import annotations

import os

import torch


def make_deterministic() -> None:
    """Choose repeatable kernels wherever torch has them; it warns of operations that have none.

    Must precede the first matrix product on a GPU, whose workspace is chosen once.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads such memory
