"""One of two processes dies within an epoch: what the other says, and what a launcher makes of it.

Each is started as its launcher would; `tiny_net.py` ends itself where the environment says so.
"""

import os
import signal
import subprocess
import sys

import pytest
import torch

from tests import ranks

SCRIPT = ("tests/cifar/tiny_net.py", "cifar/main_multiple_gpus.py")
TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--max-restarts", "1")
FLAGS = ("--epochs", "3", "--manualSeed", "4", "--lr", "0.05", "--dropout", "0.2")


def _end(processes, within=60):
    """What each process wrote to stderr."""
    return [process.communicate(timeout=within)[1] for process in processes]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The checkpoint that two processes end with when nothing happens."""
    folder = tmp_path_factory.mktemp("undisturbed")
    ranks.run(2, *SCRIPT, *_flags(folder))
    return _last(folder)


def _flags(folder):
    from tests.cifar.conftest import FLAGS as tiny

    return (*tiny.split(), *FLAGS, "-c", folder)


def _last(folder):
    return torch.load(folder / "digits" / "tiny.lif.pth", weights_only=True)


def test_torchrun_goes_on_by_itself_to_the_same_weights(tmp_path, undisturbed):
    command = [sys.executable, *TORCHRUN, "--master_port", ranks.free_port(), *SCRIPT]
    result = subprocess.run(
        [*command, *map(str, _flags(tmp_path)), "--resume", "auto", "--save_every", "2"],
        cwd=ranks.ROOT,
        env=os.environ | ranks.here() | {"TINY_DIES_AT": "5"},  # the last of the second epoch
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert "exitcode: -9" in result.stderr  # or nothing was tested
    assert "tiny.lif_mid.pth" in result.stdout
    content = _last(tmp_path)
    assert content["epoch"] == 3
    assert content["rows"] == undisturbed["rows"]
    for key, value in undisturbed["state_dict"].items():
        assert torch.equal(content["state_dict"][key], value), key


def test_a_process_whose_peer_dies_says_so_and_ends(tmp_path):
    processes = ranks.start(2, *SCRIPT, *_flags(tmp_path), TINY_DIES_AT="2", TINY_DIES="0")
    errors = _end(processes)
    assert [process.returncode for process in processes] == [-signal.SIGKILL, 2]
    (line,) = errors[1].splitlines()
    assert line.startswith("error: rank 1 of 2 lost the other ranks (")
    assert "--timeout 600" in line and "--resume auto" in line


def test_a_process_whose_peer_hangs_ends_in_time(tmp_path):
    flags = (*_flags(tmp_path), "--timeout", "8")
    first, second = ranks.start(2, *SCRIPT, *flags, TINY_DIES_AT="2", TINY_SIGNAL="SIGSTOP")
    try:
        (errors,) = _end([first])
    finally:
        second.kill()
        second.communicate()
    (line,) = errors.splitlines()
    assert first.returncode == 2 and "lost the other ranks" in line and "--timeout 8 s" in line


@pytest.mark.parametrize(
    ("absent", "said"),
    [(1, "rank 1 of 2 did not start"), (0, "rank 1 of 2 found nothing at 127.0.0.1")],
)
def test_who_does_not_come_is_named(tmp_path, absent, said):
    processes = ranks.start(2, *SCRIPT, *_flags(tmp_path), "--timeout", "1", only=1 - absent)
    (line,) = _end(processes)[0].splitlines()
    assert processes[0].returncode == 2
    assert line.startswith("error: --timeout 1: ") and said in line
    assert list(tmp_path.iterdir()) == []
