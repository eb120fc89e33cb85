"""Reproducible runs on a GPU; on a CPU, runs with the same number of threads are reproducible."""

from __future__ import annotations

import os

import torch


def make_deterministic() -> None:
    """Select deterministic kernels; torch warns of operations that have none.

    Must be called before the first matrix product on a GPU, which fixes its workspace.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads such memory
