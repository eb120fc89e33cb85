import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch.multiprocessing as mp

from utils.distributed.spawn import spawn
from utils.system.errors import UserError


def _fail_on(index, failing):
    if index == failing:
        raise UserError(f"--flag {index}: no")
    os.read(os.pipe()[0], 1)  # waits, as for a lost rank


def _fail(index):
    raise RuntimeError("an error of the program")


def test_an_error_of_one_process_ends_all():
    with pytest.raises(UserError, match="--flag 1: no"):
        spawn(_fail_on, 2, 1)


def test_an_error_of_the_program_keeps_its_traceback():
    with pytest.raises(mp.ProcessRaisedException, match="an error of the program"):
        spawn(_fail, 1)


SPAWNING = """
import sys, time
from pathlib import Path
from utils.system.entry import run
from utils.system.errors import Stopped
from utils.distributed.spawn import spawn
from utils.system.signals import Signals

def work(index, folder):
    with Signals(echoes=True) as signals:
        (folder / str(index)).touch()
        while not signals.stop:
            time.sleep(0.01)
        time.sleep(index)  # one of them saves
        raise Stopped("saved" * index, 128 + signals.stop)

if __name__ == "__main__":
    run(lambda: spawn(work, 2, Path(sys.argv[1])))
"""


def test_a_signal_reaches_all_processes_and_the_last_to_save_is_awaited(tmp_path):
    script, ready = tmp_path / "spawning.py", tmp_path / "ready"
    script.write_text(SPAWNING)
    ready.mkdir()
    process = subprocess.Popen(
        [sys.executable, script, ready],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(list(ready.iterdir())) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (143, "saved\n")
