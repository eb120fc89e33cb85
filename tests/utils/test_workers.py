import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from utils.errors import UserError
from utils.workers import map_in_processes

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_the_order_of_the_jobs(workers):
    assert map_in_processes(abs, list(range(-20, 0)), workers, "Working") == list(range(20, 0, -1))


def test_no_jobs_start_no_process():
    assert map_in_processes(abs, [], 4, "Working") == []


def test_an_error_of_a_job_is_raised_here():
    with pytest.raises(ValueError, match="invalid literal"):
        map_in_processes(int, ["1", "x"], 2, "Working")


def test_a_killed_process_is_one_line():
    with pytest.raises(UserError, match="Working: a process was killed.*--workers"):
        map_in_processes(os._exit, [9, 9], 2, "Working")


def test_workers_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import time\n"
        "from utils.workers import map_in_processes\n"
        "if __name__ == '__main__':\n"
        "    map_in_processes(time.sleep, [300, 300], 2, 'Sleeping')\n"
    )
    parent = subprocess.Popen([sys.executable, script], env={**os.environ, "PYTHONPATH": str(ROOT)})
    children = wait_for(lambda: children_of(parent.pid))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not any(alive(child) for child in children))


def children_of(pid):
    listing = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True)
    lines = listing.stdout.decode().splitlines()
    workers = [int(line.split()[0]) for line in lines if "spawn_main" in line]
    return workers if len(workers) == 2 else []


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
