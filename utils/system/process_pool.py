"""Work spread over processes that end with the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import TypeVar

from utils.system.errors import UserError
from utils.system.progress_counter import tally

Job = TypeVar("Job")
Result = TypeVar("Result")


def map_in_processes(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int, label: str
) -> list[Result]:
    """Return `function` of every job, in order, computed by `workers` processes (0: by this one).

    Says under `label` how far it is. Raises what `function` raises, and UserError where a process
    is killed; jobs done before stay done.
    """
    workers = min(workers, len(jobs))
    if workers <= 1:
        return list(tally(map(function, jobs), label, len(jobs)))
    # Spawned, since forked processes would inherit, and so keep, the locks this one holds.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker) as pool:
        results = pool.map(function, jobs, chunksize=min(8, -(-len(jobs) // workers)))
        try:
            return list(tally(results, label, len(jobs)))
        except BrokenProcessPool as error:
            raise UserError(
                f"{label}: a process was killed (out of memory?); lower --workers and run again"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def dead_loader(error: RuntimeError, workers: int) -> UserError | None:
    """Return what to tell of `error` if it is the end of one of a DataLoader's `workers`."""
    chain = [str(error), str(error.__cause__)]
    lines = [line.splitlines()[0].strip(" .") for line in chain if "DataLoader worker" in line]
    if not lines:
        return None
    return _loader_fault(next((line for line in lines if "signal" in line), lines[0]), workers)


def lost_loader(processes: Sequence[BaseProcess], workers: int) -> UserError:
    """Return what to tell of those of a DataLoader's `processes` that ended, by their numbers."""
    ended = wait([process.sentinel for process in processes], timeout=5)
    numbers = [str(process.pid) for process in processes if process.sentinel in ended]
    return _loader_fault(f"DataLoader worker (pid {', '.join(numbers)}) ended", workers)


def _loader_fault(line: str, workers: int) -> UserError:
    return UserError(f"--workers {workers}: {line} (memory or shared memory too small?); lower it")


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the pool in good order
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent was killed; it would otherwise wait for work forever."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
