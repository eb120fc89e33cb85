"""Spawn processes that work together, and report the error of the first that fails."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from typing import Any

import torch.multiprocessing as mp

from utils.system.entry import BROKEN_PIPE, os_errors, prepare_streams
from utils.system.errors import Stopped, UserError
from utils.system.signals import STOPS, exit_status, forward_signals


def spawn(work: Callable[..., None], processes: int, *arguments: Any) -> None:
    """Run `work(index, *arguments)` in `processes` new processes; end all when one fails.

    `work` must be importable by name. Signals are forwarded to the processes. Raises the first
    UserError that one of them raised, or Stopped when a signal stopped them.
    """
    errors, stops = (mp.get_context("spawn").SimpleQueue() for _ in range(2))
    # torch would log which processes it terminates, before the line that says why.
    logging.getLogger(mp.spawn.__module__).setLevel(logging.ERROR)
    context = mp.spawn(_run, (work, errors, stops, arguments), processes, join=False)
    try:
        with forward_signals(context.pids):
            while not context.join():
                continue
    except (mp.ProcessExitedException, mp.ProcessRaisedException) as failure:
        code = getattr(failure, "exit_code", None)
        if code == BROKEN_PIPE:
            raise Stopped("", BROKEN_PIPE) from None
        if not errors.empty():
            raise UserError(errors.get()) from None
        if code in map(exit_status, STOPS):
            raise Stopped("ended by a second signal, without saving", code) from None
        raise
    stopped = [stops.get() for _ in iter(stops.empty, True)]
    if stopped:
        raise Stopped(*max(stopped))


def _run(
    index: int,
    work: Callable[..., None],
    errors: SimpleQueue,
    stops: SimpleQueue,
    arguments: tuple,
) -> None:
    """Run `work` in a spawned process and report how it ended."""
    prepare_streams()
    try:
        with os_errors():
            work(index, *arguments)
    except Stopped as stop:
        if stop.status == BROKEN_PIPE:
            sys.exit(BROKEN_PIPE)
        stops.put((str(stop), stop.status))  # exits with 0, since the others may still be saving
    except UserError as error:
        errors.put(str(error))
        sys.exit(2)
