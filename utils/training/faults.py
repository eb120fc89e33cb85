"""What ends a training or a test from outside, told in one line that says what to change."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from utils.datasets.loader_workers import killed_worker_error
from utils.system.errors import UserError
from utils.training import out_of_memory
from utils.training.context import Run

_CPU_MEMORY = "can't allocate memory"


@contextmanager
def explained(run: Run) -> Iterator[None]:
    """Turn memory that runs out and a loader process that dies into `UserError`."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        traceback.clear_frames(error.__traceback__)  # they hold what filled the memory
        raise UserError(out_of_memory.advice(run)) from None
    except RuntimeError as error:
        if fault := killed_worker_error(error, run.args.workers):
            raise fault from error
        if _CPU_MEMORY in str(error):
            raise UserError(out_of_memory.advice(run)) from error
        raise
