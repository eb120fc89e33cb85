import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from utils.system.signals import STOPS, Request, Signals

ROOT = Path(__file__).resolve().parents[3]


def _send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", STOPS)
def test_a_request_to_stop_stays(number):
    before = signal.getsignal(number)
    with Signals() as signals:
        assert signals.request() == Request.NONE
        _send(number)
        assert signals.request() == signals.request() == STOPS[number]
    assert signal.getsignal(number) is before


def test_a_request_to_save_is_returned_once_and_a_stop_comes_first():
    with Signals() as signals:
        _send(signal.SIGUSR1)
        assert [signals.request(), signals.request()] == [Request.SAVE, Request.NONE]
        _send(signal.SIGUSR1)
        _send(signal.SIGTERM)
        assert signals.request() == STOPS[signal.SIGTERM]


SECOND = """
import os, signal, sys
from utils.system.signals import Signals
signals = Signals(echoes=sys.argv[1] == "echoes")
os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGINT)
print("going on")
"""

LOADER = """
import os, signal, time
from utils.system.signals import ignore_group_signals
read, write = os.pipe()
child = os.fork()
if not child:
    ignore_group_signals()
    os.write(write, b"x")
    time.sleep(60)
    os._exit(7)
os.read(read, 1)
stranger = os.fork()
if not stranger:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        os.kill(child, number)
    os._exit(0)
os.waitpid(stranger, 0)
time.sleep(0.3)
print(os.waitpid(child, os.WNOHANG)[0])
os.kill(child, signal.SIGTERM)
print(os.waitpid(child, 0)[1])
"""


def _run(code, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_a_second_signal_ends_the_process_at_once():
    result = _run(SECOND, "")
    assert (result.returncode, result.stdout) == (130, "")


def test_with_echoes_the_same_signal_from_the_launcher_is_not_a_second_one():
    result = _run(SECOND, "echoes")
    assert (result.returncode, result.stdout) == (0, "going on\n")


def test_a_later_signal_is_not_an_echo(monkeypatch):
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    with Signals(echoes=True) as signals:
        _send(signal.SIGTERM)
        _send(signal.SIGTERM)
        assert ended == []
        later = time.monotonic() + 2
        monkeypatch.setattr(time, "monotonic", lambda: later)
        _send(signal.SIGTERM)
        assert signals.stop == signal.SIGTERM
    assert ended == [143]


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="cannot tell who sent a signal")
def test_a_loader_worker_obeys_only_its_parent():
    result = _run(LOADER)
    assert result.stdout.split() == ["0", "0"], result.stderr
