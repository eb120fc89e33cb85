"""The worker processes of a DataLoader: what to report when one of them ends."""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from utils.system.errors import UserError

_EXIT_SECONDS = 5  # that a worker whose pipe is closed may take to exit


def killed_worker_error(error: RuntimeError, workers: int) -> UserError | None:
    """Return the UserError for `error` if it reports a dead DataLoader worker, else None.

    `workers` is the value of `--workers`.
    """
    chain = [str(error), str(error.__cause__)]
    lines = [line.splitlines()[0].strip(" .") for line in chain if "DataLoader worker" in line]
    if not lines:
        return None
    return _worker_error(next((line for line in lines if "signal" in line), lines[0]), workers)


def lost_worker_error(processes: Sequence[BaseProcess], workers: int) -> UserError:
    """Return the UserError that names those of the worker `processes` that have ended."""
    ended = wait([process.sentinel for process in processes], timeout=_EXIT_SECONDS)
    pids = [str(process.pid) for process in processes if process.sentinel in ended]
    return _worker_error(f"DataLoader worker (pid {', '.join(pids)}) ended", workers)


def _worker_error(line: str, workers: int) -> UserError:
    return UserError(f"--workers {workers}: {line} (memory or shared memory too small?); lower it")
