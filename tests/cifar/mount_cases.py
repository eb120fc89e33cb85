"""Training on disks that are full or read-only; `test_mounts` runs this with mounts of its own."""

import errno
import os
import subprocess
from pathlib import Path

import pytest
import torch

from utils.runs import checkpoint
from utils.runs.log import Log
from utils.system.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ("--epochs", "3", "--manualSeed", "8")
STEM = "tiny.lif"


def _mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)


@pytest.fixture
def disk(tmp_path):
    """A disk of half a megabyte."""
    path = tmp_path / "disk"
    path.mkdir()
    _mount("-t", "tmpfs", "-o", "size=512k", "none", path)
    yield path
    subprocess.run(["umount", path], check=True)


def _fill(disk):
    with (disk / "filler").open("wb", buffering=0) as file, pytest.raises(OSError) as error:
        while True:
            file.write(bytes(4096))
    assert error.value.errno == errno.ENOSPC


@pytest.fixture
def undisturbed(call):
    folder = call(*FLAGS, "--name", "whole")
    return (folder / f"{STEM}whole.txt").read_text()


def _end(folder):
    return checkpoint.load(folder / f"{STEM}.pth")


def test_a_full_disk(call, before_epoch, capsys, disk, undisturbed):
    full = []
    before_epoch(2, lambda: full or (full.append(True), _fill(disk)))
    with pytest.raises(SystemExit) as ended:
        call(*FLAGS, "-c", str(disk))
    assert ended.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device" in line and "make room" in line
    folder = disk / "digits"
    assert _end(folder)["epoch"] == 2 and not list(folder.glob(".*.tmp"))
    (disk / "filler").unlink()
    call(*FLAGS, "-c", str(disk), "--resume", "auto")
    assert (folder / f"{STEM}.txt").read_text() == undisturbed
    whole = checkpoint.load(call(*FLAGS, "--name", "again") / f"{STEM}again.pth")
    for key, value in _end(folder)["state_dict"].items():
        assert torch.equal(value, whole["state_dict"][key])


def test_a_disk_full_for_the_log_alone(call, before_epoch, capsys, tmp_path, undisturbed):
    """The run trains on with a warning; a later start completes the log."""
    log = tmp_path / "digits" / f"{STEM}.txt"
    before_epoch(1, lambda: _mount("--bind", "/dev/full", log))
    capsys.readouterr()
    folder = call(*FLAGS)
    warnings = capsys.readouterr().err.splitlines()
    assert all(line.startswith("warning: the log could not be written") for line in warnings)
    assert len(warnings) == 3 and _end(folder)["epoch"] == 3  # two epochs, and the end
    subprocess.run(["umount", log], check=True)
    assert log.read_text() == "".join(undisturbed.splitlines(keepends=True)[:2])
    call(*FLAGS, "--resume", "auto")
    assert log.read_text() == undisturbed


def test_a_log_that_outgrows_its_disk(disk):
    """A row that no longer fits is cut; it is mended once there is room."""
    log, rows = Log(disk / "x.txt"), [[float(row)] * 5 for row in range(200)]
    log.complete(rows[:1])
    _fill(disk)
    for count in range(2, 200):
        try:
            log.complete(rows[:count])
        except UserError as error:
            assert "No space left on device" in str(error)
            break
    assert count < 150  # a page of the disk holds fewer
    os.remove(disk / "filler")
    log.complete(rows)
    assert log.read() == rows


@pytest.fixture
def read_only_repository():
    _mount("--bind", ROOT, ROOT)
    _mount("-o", "remount,bind,ro", ROOT)
    yield
    subprocess.run(["umount", "--lazy", ROOT], check=True)


def test_a_read_only_repository(call, capsys, read_only_repository, monkeypatch):
    monkeypatch.chdir(ROOT)  # the folder as it is mounted now
    with pytest.raises(OSError, match="Read-only"):
        (ROOT / "file").touch()
    assert _end(call(*FLAGS))["epoch"] == 3
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        call(*FLAGS, "-c", str(ROOT / "checkpoint" / "new"))
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: cannot write") and "Read-only file system" in line
