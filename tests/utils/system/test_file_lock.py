import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from utils.system import file_lock
from utils.system.file_lock import FileLock, LockHeld

ROOT = Path(__file__).resolve().parents[3]
HOLDER = """
import sys, time
from pathlib import Path
from utils.system.file_lock import FileLock
lock = FileLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".net.lock"


@pytest.fixture(params=["flock", "no flock"])
def file_system(request, monkeypatch):
    """A file system with locks, and one without."""
    if request.param == "no flock":

        def refuse(file, operation):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", refuse)
    return request.param


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


def test_the_error_names_the_holder(path, holder, file_system):
    for refuse in (FileLock(path).check, FileLock(path).acquire):
        with pytest.raises(LockHeld, match=rf"process {holder.pid} on .*since 2"):
            refuse()


def test_the_lock_ends_with_a_killed_process(path, holder, file_system):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert path.exists()
    lock = FileLock(path)
    lock.check()
    lock.acquire()
    assert f"process {os.getpid()} " in path.read_text()
    lock.release()
    assert not path.exists()


def test_one_process_takes_it_once(path, file_system):
    lock = FileLock(path)
    lock.acquire()
    with pytest.raises(LockHeld, match=f"process {os.getpid()} "):
        FileLock(path).acquire()
    lock.release()
    FileLock(path).acquire()


def test_waiting_takes_the_lock_once_it_is_released(path, monkeypatch, file_system):
    first = FileLock(path)
    first.acquire()
    monkeypatch.setattr(file_lock.time, "sleep", lambda _: first.release())
    second = FileLock(path)
    second.acquire(wait=True)
    second.release()


def test_without_flock_a_holder_on_another_host_is_warned_of(path, monkeypatch, capsys):
    def refuse(file, operation):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    path.write_text("process 7 on elsewhere (since 2026-01-01 00:00:00+00:00)")
    FileLock(path).acquire()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ") and "process 7 on elsewhere" in line and str(path) in line
    assert f"process {os.getpid()} " in path.read_text()


def test_a_file_removed_before_it_was_locked_is_created_again(path, monkeypatch):
    original, opened = FileLock._lock, []

    def slow(self, file, kind):
        opened.append(file)
        if len(opened) == 1:  # its holder releases it, which removes the file
            path.unlink()
        original(self, file, kind)

    monkeypatch.setattr(FileLock, "_lock", slow)
    FileLock(path).acquire()
    assert path.exists() and len(opened) == 2


def test_a_check_writes_nothing(path):
    FileLock(path).check()
    assert list(path.parent.iterdir()) == []


def test_the_name_in_the_file_is_printed_without_control_characters(path, monkeypatch):
    lock = FileLock(path)
    lock.acquire()
    path.write_bytes(b"process 1\x1b[2J\n on \xff")
    with pytest.raises(LockHeld) as held:
        FileLock(path).acquire()
    assert str(held.value).isprintable()
