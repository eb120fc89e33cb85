"""Start the ranks of a process group as a launcher would."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def free_port():
    """A TCP port of this machine on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def here():
    """The environment of a process that runs the tree from anywhere, on one core and no GPU."""
    return {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def group(rank, size, port):
    """The variables that a launcher sets for rank `rank` of `size`."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size)}
    return place | {"RANK": str(rank), "LOCAL_RANK": str(rank)}


def start(size, *command, only=None, **environment):
    """Start `python *command` as all of `size` ranks, or as rank `only`."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            env=os.environ | here() | group(rank, size, port) | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (range(size) if only is None else [only])
    ]


def finish(processes):
    """Wait for all, which must succeed; their output on stdout and stderr."""
    printed = [process.communicate(timeout=120) for process in processes]
    for process, (_, errors) in zip(processes, printed, strict=True):
        assert process.returncode == 0, errors
    return printed


def run(size, *command):
    """`start` and `finish`."""
    return finish(start(size, *command))
