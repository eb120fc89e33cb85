import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from utils.runs.lock import RunLock
from utils.system.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
HOLDER = """
import sys, time
from pathlib import Path
from utils.runs.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".net.lock"


@pytest.fixture
def holder(path):
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_who_holds_it_is_told(path, holder):
    for refuse in (RunLock(path).check, RunLock(path).__enter__):
        with pytest.raises(
            UserError, match=rf"process {holder.pid} on .*since 2.*{path.parent}/net"
        ):
            refuse()


def test_it_ends_with_a_killed_process(path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert path.exists()
    RunLock(path).check()
    with RunLock(path):
        assert f"process {os.getpid()} " in path.read_text()
    assert not path.exists()


def test_within_one_process_it_is_held_once_too(path):
    with RunLock(path):
        with pytest.raises(UserError, match=f"process {os.getpid()} "), RunLock(path):
            pass
        assert path.exists()
    with RunLock(path):
        pass


def test_one_that_was_removed_while_it_was_opened_is_made_anew(path, monkeypatch):
    original, opened = RunLock._try, []

    def slow(self, file, kind):
        opened.append(file)
        if len(opened) == 1:  # whoever held it lets go and removes it
            path.unlink()
        original(self, file, kind)

    monkeypatch.setattr(RunLock, "_try", slow)
    with RunLock(path):
        assert path.exists() and len(opened) == 2


def test_a_check_writes_nothing(path):
    RunLock(path).check()
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_is_none_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    lock = RunLock(tmp_path / "file" / ".net.lock")
    lock.check()
    with pytest.raises(UserError, match="cannot write"):
        lock.__enter__()
