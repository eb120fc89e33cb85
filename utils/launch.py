"""Processes started by this one, which reports the mistake that ends them as its own."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from typing import Any

import torch.multiprocessing as mp

from utils.errors import UserError


def spawn(work: Callable[..., None], processes: int, *arguments: Any) -> None:
    """Run `work(index, *arguments)` in `processes` new processes; end all when one fails.

    `work` must be importable by name. Raises the first `UserError` that one of them raised.
    """
    mistakes = mp.get_context("spawn").SimpleQueue()
    # It would tell on stderr which processes it ends, above the one line that says why.
    logging.getLogger(mp.spawn.__module__).setLevel(logging.ERROR)
    try:
        mp.spawn(_run, (work, mistakes, arguments), processes)
    except (mp.ProcessExitedException, mp.ProcessRaisedException):
        if mistakes.empty():
            raise
        raise UserError(mistakes.get()) from None


def _run(index: int, work: Callable[..., None], mistakes: SimpleQueue, arguments: tuple) -> None:
    try:
        work(index, *arguments)
    except UserError as error:
        mistakes.put(str(error))
        sys.exit(2)
