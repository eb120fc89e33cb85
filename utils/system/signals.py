"""Signals to a run: SIGTERM and SIGINT stop it in good order, SIGUSR1 saves and goes on."""

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
    """A request to a training; where processes got different ones, all serve the largest."""

    NONE = 0
    SAVE = 1
    INTERRUPT = 2
    TERMINATE = 3


STOPS = {signal.SIGINT: Request.INTERRUPT, signal.SIGTERM: Request.TERMINATE}
_HANDLED = (*STOPS, signal.SIGUSR1)
_ECHO = 1.0  # seconds in which launcher and terminal pass on one and the same signal


def status(number: int) -> int:
    """Return the exit status that tells of the signal `number`."""
    return 128 + number


class Signals:
    """Notes signals for whoever asks, between its construction and `close`.

    The second one that asks to stop ends the process at once. Of several processes each may get
    it from the terminal and from its launcher as well, so with `echoes` a second within a second
    counts for the first. In any thread but the main one nothing is noted.
    """

    def __init__(self, echoes: bool = False) -> None:
        self.stop: signal.Signals | None = None
        self.save = False
        self.echoes, self.since = echoes, 0.0
        self.former = {}
        if threading.current_thread() is threading.main_thread():
            self.former = {number: signal.signal(number, self._note) for number in _HANDLED}

    def __enter__(self) -> Signals:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the signals back to who handled them before."""
        for number, handler in self.former.items():
            signal.signal(number, handler)
        self.former = {}

    def request(self) -> Request:
        """Return the request of the signals so far; `SAVE` is returned once, a stop each time."""
        if self.stop is not None:
            return STOPS[self.stop]
        asked, self.save = self.save, False
        return Request.SAVE if asked else Request.NONE

    def _note(self, number: int, frame: object) -> None:
        if number == signal.SIGUSR1:
            self.save = True
        elif self.stop is None:
            self.stop, self.since = signal.Signals(number), time.monotonic()
        elif not (self.echoes and time.monotonic() - self.since < _ECHO):
            os._exit(status(number))


@contextmanager
def passed_on(processes: Callable[[], list[int]]) -> Iterator[None]:
    """Meanwhile pass signals on to the `processes`, by number, instead of heeding them."""

    def pass_on(number: int, frame: object) -> None:
        for process in processes():
            with suppress(ProcessLookupError):  # it has ended
                os.kill(process, number)

    former = {number: signal.signal(number, pass_on) for number in _HANDLED}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def ignore_requests_to_save() -> None:
    """Let SIGUSR1, which ends a process by default, do nothing until a training heeds it."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def heed_parent_alone(_: int = 0) -> None:
    """Let this process outlive signals to its whole group; its parent still ends it by SIGTERM.

    A loader's process calls it: a training that a signal stops takes its last step first, and
    may need data for it.
    """
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # or there is no telling who sent it
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    started_by = multiprocessing.parent_process()
    parent = started_by.pid if started_by else os.getppid()
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        continue
    os._exit(0)
