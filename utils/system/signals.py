"""Signals to a run: SIGTERM and SIGINT save and stop it, SIGUSR1 saves and continues."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum


class Request(IntEnum):
    """A request to a training run; where processes got different ones, all serve the largest."""

    NONE = 0
    SAVE = 1
    INTERRUPT = 2
    TERMINATE = 3


STOPS = {signal.SIGINT: Request.INTERRUPT, signal.SIGTERM: Request.TERMINATE}
_HANDLED = (*STOPS, signal.SIGUSR1)
_ECHO = 1.0  # seconds in which the launcher and the terminal may deliver the same signal


def exit_status(number: int) -> int:
    """Return the exit status of a process that signal `number` ended."""
    return 128 + number


class Signals:
    """Records signals from its construction until `close`, for `request` to return.

    A second request to stop ends the process at once. One of several processes may get a signal
    both from the terminal and from its launcher: with `echoes`, signals within a second of the
    first count as the same. Outside the main thread nothing is recorded.
    """

    def __init__(self, echoes: bool = False) -> None:
        self.stop: signal.Signals | None = None
        self.save = False
        self.echoes, self.since = echoes, 0.0
        self.previous = {}
        if threading.current_thread() is threading.main_thread():
            self.previous = {number: signal.signal(number, self._record) for number in _HANDLED}

    def __enter__(self) -> Signals:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}

    def request(self) -> Request:
        """Return the request of the signals so far; `SAVE` is returned once, a stop each time."""
        if self.stop is not None:
            return STOPS[self.stop]
        asked, self.save = self.save, False
        return Request.SAVE if asked else Request.NONE

    def _record(self, number: int, frame: object) -> None:
        if number == signal.SIGUSR1:
            self.save = True
        elif self.stop is None:
            self.stop, self.since = signal.Signals(number), time.monotonic()
        elif not (self.echoes and time.monotonic() - self.since < _ECHO):
            os._exit(exit_status(number))


@contextmanager
def forward_signals(pids: Callable[[], list[int]]) -> Iterator[None]:
    """Inside the context, send signals on to the processes `pids()` instead of handling them."""

    def forward(number: int, frame: object) -> None:
        for pid in pids():
            with suppress(ProcessLookupError):  # it has ended
                os.kill(pid, number)

    previous = {number: signal.signal(number, forward) for number in _HANDLED}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def ignore_save_requests() -> None:
    """Ignore SIGUSR1, which ends a process by default, until a training run records it."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def ignore_group_signals(_: int = 0) -> None:
    """Ignore signals to the process group; the parent can still end this process by SIGTERM.

    For DataLoader workers (`worker_init_fn`): a training run that a signal stops completes its
    last step first, and may need data for it.
    """
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # without it the sender of a signal is unknown
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_exit_on_parents_signal, daemon=True).start()


def _exit_on_parents_signal() -> None:
    started_by = multiprocessing.parent_process()
    parent = started_by.pid if started_by else os.getppid()
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        continue
    os._exit(0)
