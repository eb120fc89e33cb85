"""Programs in processes of their own, whose surroundings fail them: streams, signals, launchers."""

import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests import ranks
from tests.stress import hostile_files

ROOT = ranks.ROOT
IMPORT = ["--import", str(ROOT / "tests" / "stress" / "tiny_networks.py")]
DIGITS = shlex.split(
    "--dataset digits --path nowhere --model tiny.lif --timesteps 2 --delta_t 0.5 --Vth 0.6 "
    "--train-batch 512 --test-batch 200 --warmup 4 --compile off --manualSeed 1 -j 0"
)
SINGLE = ["cifar/main_single_gpu.py", *IMPORT, *DIGITS]
MULTI = ["cifar/main_multiple_gpus.py", *IMPORT, *DIGITS]
IMAGES = shlex.split("--image-size 32 -b 2 --warmup 0 --compile off --seed 5 -j 0")
IMAGENET = ["imagenet/main.py", *IMPORT, *IMAGES]
MANY = 10**6  # epochs: the run does not end by itself
SECONDS = 120


def start(*command, stdout=subprocess.PIPE, cwd=ROOT, **options):
    """Start `python *command` on one core; `options` are those of Popen, `env` adds variables."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=os.environ | ranks.here() | options.pop("env", {}),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(process):
    """The exit status and stderr of a process."""
    return process.returncode, process.communicate(timeout=SECONDS)[1]


def wait_for(condition):
    """Wait until `condition()` is true, and return its value."""
    end = time.monotonic() + SECONDS
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return value


def epochs(folder):
    """How many epochs the checkpoint of a run in `folder` holds, 0 if there is none."""
    path = folder / "digits" / "tiny.lif.pth"
    return torch.load(path, weights_only=True)["epoch"] if path.exists() else 0


def leftovers(folder):
    """The temporary files and locks below a folder."""
    return [path.name for path in folder.rglob(".*")]


def lines_until(stream, words):
    """Read lines of a process until one contains `words`."""
    for line in stream:
        if words in line:
            return
    pytest.fail(f"no line contains {words!r}")


def test_training_whose_reader_goes_ends_quietly(tmp_path):
    process = start(*SINGLE, "--epochs", MANY, "-c", tmp_path)
    lines_until(process.stdout, "epoch 1/")
    process.stdout.close()
    assert (process.wait(SECONDS), process.stderr.read()) == (141, "")
    process.stderr.close()
    assert epochs(tmp_path) >= 1 and leftovers(tmp_path) == []


def test_training_whose_output_no_longer_fits_ends_in_one_line(tmp_path):
    """The file of stdout is limited to a length that the checkpoints do not reach."""
    output, limit = tmp_path / "output", 1 << 20
    with output.open("wb") as file:
        file.truncate(limit - 2000)
    program = "import resource, runpy, sys\n"
    program += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
    program += "sys.argv.pop(0)\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    with output.open("ab") as file:
        process = start("-c", program, *SINGLE, "--epochs", MANY, "-c", tmp_path, stdout=file)
        process.wait(SECONDS)
    status, error = finish(process)
    assert (status, error.count("\n")) == (2, 1)
    assert error.startswith("error: cannot write to stdout (File too large)")
    assert epochs(tmp_path) >= 1 and leftovers(tmp_path) == []


def test_no_terminal_no_streams_and_an_old_locale(tmp_path):
    """Closed stdin and stdout, no width, names that the locale cannot encode: it trains."""
    folder = tmp_path / "caf\u00e9 \u732b \x1b[31m"
    process = start(
        *[*SINGLE, "--epochs", "1", "--name", "_\u00fc$_$", "-c", folder],
        stdout=None,
        env={"COLUMNS": "1", "TERM": "", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
        preexec_fn=lambda: [os.close(0), os.close(1)],
    )
    process.wait(SECONDS)
    assert finish(process) == (0, "")
    names = {path.name for path in (folder / "digits").iterdir()}
    assert {"tiny.lif_\u00fc$_$.pth", "tiny.lif_\u00fc$_$.txt", "tiny.lif_\u00fc$_$.pdf"} <= names


def test_a_narrow_dumb_terminal(tmp_path):
    terminal, other = pty.openpty()
    flags = [*SINGLE, "--epochs", "1", "-c", tmp_path]
    process = start(*flags, stdout=other, env={"COLUMNS": "10", "TERM": "dumb"})
    os.close(other)
    shown = b""
    try:
        while content := os.read(terminal, 1 << 16):
            shown += content
    except OSError:  # the terminal is closed
        pass
    os.close(terminal)
    process.wait(SECONDS)
    assert finish(process) == (0, "")
    assert b"best test" in shown


def test_a_read_only_repository_is_not_written_to(tmp_path):
    tree = tmp_path / "tree"
    for name in ("cifar", "models", "utils", "tests", "data"):
        ignored = shutil.ignore_patterns("__pycache__", "golden")
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    before = {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
    for path in (*before, tree):
        path.chmod(path.stat().st_mode & ~0o222)
    process = start(
        *[tree / SINGLE[0], "--import", tree / "tests/stress/tiny_networks.py", *DIGITS],
        *["--epochs", "1", "-c", tmp_path / "out"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tree)},
    )
    process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    for path in (*before, tree):
        path.chmod(path.stat().st_mode | 0o200)
    after = {p: p.stat().st_mtime_ns for p in tree.rglob("*") if p.suffix != ".pyc"}
    assert {path for path in after if path.name != "__pycache__"} == set(before)
    assert all(after[path] == time for path, time in before.items() if path.is_file())


def test_a_killed_simulation_is_repeated(tmp_path):
    command = ["-m", "utils.sample_data", "dvs", "--path", tmp_path / "new", "--recordings", "60"]
    process = start(*command)
    lines_until(process.stdout, "Simulating")
    process.kill()
    process.communicate()
    assert not (tmp_path / "new" / "events").exists()
    process = start(*command)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 0 and leftovers(tmp_path) == []
    assert len(list((tmp_path / "new" / "events").rglob("*.aedat"))) == 60


@pytest.fixture
def images(tmp_path):
    """A folder of a few good images."""
    hostile_files.write(tmp_path / "files")
    return tmp_path / "files" / "images" / "good"


def test_a_killed_calibration_leaves_thresholds_whole_or_none(tmp_path, images):
    flags = ["--data", images, "-c", tmp_path]
    ann = start(*IMAGENET, *flags, "--arch", "preresnet_ann.tiny", "--name", "ann", "--epochs", "1")
    ann.communicate(timeout=SECONDS)
    flags += ["--arch", "preresnet_cal_Vth.tiny", "--pre_train", "ann.pth", "--calculate_Vth", "x"]
    process, path = start(*IMAGENET, *flags), tmp_path / "imagenet" / "x.dict"
    lines_until(process.stdout, "weights:")
    process.kill()
    process.communicate()
    assert not path.exists() or len(torch.load(path, weights_only=True)) == 5
    process = start(*IMAGENET, *flags)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 0 and len(torch.load(path, weights_only=True)) == 5
    assert leftovers(tmp_path / "imagenet") == []


def test_a_slow_rank_is_waited_for(tmp_path):
    first, slow = ranks.start(2, *MULTI, "--epochs", "6", "-c", tmp_path)
    lines_until(first.stdout, "epoch 1/")
    slow.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    slow.send_signal(signal.SIGCONT)
    ranks.finish([first, slow])
    assert epochs(tmp_path) == 6


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
def test_a_dead_launcher_takes_no_epoch_with_it(tmp_path):
    """The processes of torchrun train on without it, to the end, which does not hang."""
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2"]
    flags = [*MULTI, "--epochs", "12", "-c", tmp_path]
    process = start(*launcher, "--master_port", ranks.free_port(), *flags)
    lines_until(process.stdout, "epoch 1/")
    children = _children(process.pid)
    process.kill()
    process.communicate(timeout=SECONDS)  # until the last of them closes the pipes
    assert len(children) == 2
    wait_for(lambda: not any(map(_is_running, children)))
    assert epochs(tmp_path) == 12 and leftovers(tmp_path) == []


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
def test_spawned_processes_save_and_end_with_the_one_that_started_them(tmp_path, images):
    flags = ["--data", images, "-c", tmp_path, "--epochs", MANY, "--arch", "preresnet_ann.tiny"]
    several = ["-b", "4", "--multiprocessing-distributed", "--nproc", "2"]
    process = start(*IMAGENET, *flags, *several)
    lines_until(process.stdout, "epoch 1/")
    children = _children(process.pid)
    process.kill()
    process.communicate(timeout=SECONDS)
    assert len(children) >= 2
    wait_for(lambda: not any(map(_is_running, children)))
    assert epochs_of_ann(tmp_path) >= 1 and leftovers(tmp_path / "imagenet") == []


def epochs_of_ann(folder):
    path = folder / "imagenet" / "preresnet_ann.tiny.pth"
    return torch.load(path, weights_only=True)["epoch"]


def _children(parent):
    """The processes that `parent` started."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def _is_running(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
