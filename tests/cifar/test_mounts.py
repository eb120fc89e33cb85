"""Disks that are really full or read-only: the cases in `mount_cases`, where mounts are allowed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def _can_mount():
    if not shutil.which("unshare"):
        return False
    mount = ["mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run([*NAMESPACE, *mount], capture_output=True).returncode == 0


@pytest.mark.skipif(not _can_mount(), reason="mounts need unprivileged user namespaces")
def test_full_and_read_only_disks():
    cases = ["-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "tests/cifar/mount_cases.py"]
    command = [*NAMESPACE, sys.executable, "-B", *cases]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
