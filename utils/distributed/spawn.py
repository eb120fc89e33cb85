"""Processes started by this one, which reports the mistake that ends them as its own."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from typing import Any

import torch.multiprocessing as mp

from utils.system.errors import Stopped, UserError
from utils.system.signals import STOPS, passed_on, status


def spawn(work: Callable[..., None], processes: int, *arguments: Any) -> None:
    """Run `work(index, *arguments)` in `processes` new processes; end all when one fails.

    `work` must be importable by name. Signals are passed on. Raises the first `UserError` that one
    of them raised, or `Stopped` when a signal stopped them.
    """
    mistakes, stops = (mp.get_context("spawn").SimpleQueue() for _ in range(2))
    # It would tell on stderr which processes it ends, above the one line that says why.
    logging.getLogger(mp.spawn.__module__).setLevel(logging.ERROR)
    context = mp.spawn(_run, (work, mistakes, stops, arguments), processes, join=False)
    try:
        with passed_on(context.pids):
            while not context.join():
                continue
    except (mp.ProcessExitedException, mp.ProcessRaisedException) as failure:
        if not mistakes.empty():
            raise UserError(mistakes.get()) from None
        if (code := getattr(failure, "exit_code", None)) in map(status, STOPS):
            raise Stopped("ended by a second signal, without saving", code) from None
        raise
    told = [stops.get() for _ in iter(stops.empty, True)]
    if told:
        raise Stopped(*max(told))


def _run(
    index: int,
    work: Callable[..., None],
    mistakes: SimpleQueue,
    stops: SimpleQueue,
    arguments: tuple,
) -> None:
    try:
        work(index, *arguments)
    except Stopped as stop:  # as a success, or the others would be ended while they still save
        stops.put((str(stop), stop.status))
    except UserError as error:
        mistakes.put(str(error))
        sys.exit(2)
