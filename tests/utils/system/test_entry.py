import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import os, signal, sys
from utils.system.entry import run
from utils.system.errors import Stopped, UserError

def main():
    {}

run(main)
"""
MANY_LINES = "[print(n) for n in range(100_000)]"


def start(body, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs):
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | kwargs.pop("env", {})
    command = [sys.executable, "-c", PROGRAM.format(body)]
    return subprocess.Popen(command, stdout=stdout, stderr=stderr, env=environment, **kwargs)


def outcome(process):
    """The exit status and what was written to stdout and stderr."""
    out, err = process.communicate(timeout=60)
    return process.returncode, (out or b"").decode(), (err or b"").decode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("print('done')", (0, "done\n", "")),
        ("raise UserError('--x: no')", (2, "", "error: --x: no\n")),
        ("raise UserError('file \\x1b[31m\\n.png')", (2, "", "error: file \\x1b[31m\\n.png\n")),
        ("raise Stopped('saved', 143)", (143, "", "saved\n")),
        ("raise Stopped('', 130)", (130, "", "")),
        ("raise KeyboardInterrupt", (130, "", "interrupted\n")),
        ("os.kill(os.getpid(), signal.SIGUSR1)", (0, "", "")),
    ],
)
def test_the_end_of_a_program(body, expected):
    assert outcome(start(body)) == expected


def test_an_error_of_the_program_keeps_its_traceback():
    status, _, err = outcome(start("raise OSError(28, 'No space left on device')"))
    assert status == 1 and "Traceback" in err


@pytest.mark.parametrize("body", [MANY_LINES, "print(1, flush=True), print(2, flush=True)"])
def test_a_broken_pipe_ends_quietly(body):
    read, write = os.pipe()
    os.close(read)
    process = start(body, stdout=write)
    os.close(write)
    assert outcome(process) == (141, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("body", [MANY_LINES, "print('buffered until the end')"])
def test_a_full_disk_behind_stdout_is_one_line(body):
    with open("/dev/full", "wb") as full:
        status, _, err = outcome(start(body, stdout=full))
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("error: cannot write to stdout (No space left on device)")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stderr_changes_no_status():
    with open("/dev/full", "wb") as full:
        assert outcome(start("raise UserError('x')", stderr=full))[0] == 2


def test_closed_streams_are_not_taken_by_the_next_file(tmp_path):
    body = f"file = open({str(tmp_path / 'file')!r}, 'w'); print('x', flush=True)"
    closing = {"preexec_fn": lambda: [os.close(number) for number in range(3)]}
    process = start(body, stdout=None, stderr=None, **closing)
    assert outcome(process)[0] == 0
    assert (tmp_path / "file").read_text() == ""


def test_names_that_the_locale_cannot_encode_are_printed_escaped():
    status, out, _ = outcome(
        start("print('caf\\u00e9 \\u732b')", env={"PYTHONIOENCODING": "ascii"})
    )
    assert (status, out) == (0, "caf\\xe9 \\u732b\n")
