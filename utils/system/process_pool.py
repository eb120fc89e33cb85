"""A pool of processes that end when the process that started them is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TypeVar

from utils.system.errors import UserError
from utils.system.progress_counter import count_progress

Job = TypeVar("Job")
Result = TypeVar("Result")
_MOST_PER_CORE = 4  # processes, whatever is asked for


def map_in_processes(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int, label: str
) -> list[Result]:
    """Return `function` of every job, in order, computed by `workers` processes (0: by this one).

    Prints progress under `label`. Raises what `function` raises, and UserError where a process is
    killed; files written by earlier jobs stay.
    """
    workers = min(workers, len(jobs), _MOST_PER_CORE * (os.cpu_count() or 1))
    if workers <= 1:
        return list(count_progress(map(function, jobs), label, len(jobs)))
    # Spawned, since forked processes would inherit, and so keep, the locks this one holds.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker) as pool:
        results = pool.map(function, jobs, chunksize=min(8, -(-len(jobs) // workers)))
        try:
            return list(count_progress(results, label, len(jobs)))
        except BrokenProcessPool as error:
            raise UserError(
                f"{label}: a process was killed (out of memory?); lower --workers and run again"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent shuts the pool down
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Exit when the parent has been killed; this process would otherwise wait for jobs forever."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
