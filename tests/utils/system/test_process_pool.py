import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from utils.system.errors import UserError
from utils.system.process_pool import map_in_processes

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_the_order_of_the_jobs(workers):
    assert map_in_processes(abs, list(range(-20, 0)), workers, "Working") == list(range(20, 0, -1))


def test_without_jobs_no_process_starts():
    assert map_in_processes(abs, [], 4, "Working") == []


def test_an_error_of_a_job_is_raised_by_the_caller():
    with pytest.raises(ValueError, match="invalid literal"):
        map_in_processes(int, ["1", "x"], 2, "Working")


def test_a_killed_process_is_one_line():
    with pytest.raises(UserError, match="Working: a process was killed.*--workers"):
        map_in_processes(os._exit, [9, 9], 2, "Working")


PARENT = """
import os, sys, time
from pathlib import Path
from utils.system.process_pool import map_in_processes

def work(folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(300)

if __name__ == "__main__":
    map_in_processes(work, sys.argv[1:] * 2, 2, "Working")
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_workers_end_with_a_killed_parent(tmp_path):
    script, folder = tmp_path / "parent.py", tmp_path / "pids"
    script.write_text(PARENT)
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, script, folder], env=environment) as parent:
        try:
            wait_for(lambda: len(list(folder.iterdir())) == 2)
        finally:
            parent.kill()
    workers = [int(file.name) for file in folder.iterdir()]
    wait_for(lambda: not any(alive(worker) for worker in workers))


def alive(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return value
