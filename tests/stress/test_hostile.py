"""Hostile input to every program: one line on stderr that names it, status 2, nothing written.

`hostile_cases` lists the command lines, which are called in this process.
"""

import os
import shlex
import signal
import sys
from contextlib import contextmanager
from unittest import mock

import pytest
import torch

from models import registry
from tests import ranks
from tests.cifar import tiny_net as cifar_nets
from tests.imagenet import tiny_net as imagenet_nets
from tests.stress import hostile_files
from tests.stress.hostile_cases import BASE, HARMLESS, cases
from utils import compare, sample_data, show_events
from utils.system import entry

with mock.patch("utils.system.allocator.tune_allocator"):  # it would stay tuned
    from cifar import main_multiple_gpus, main_single_gpu
    from imagenet import main as imagenet_main

PROGRAMS = {
    "single": main_single_gpu.main,
    "multi": main_multiple_gpus.main,
    "imagenet": imagenet_main.main,
    "show_events": show_events.main,
    "sample_data": sample_data.main,
    "compare": compare.main,
}
LONG = "x" * 300
SECONDS = 60


@pytest.fixture(scope="module")
def patched():
    """No launcher and no network connection; the tiny networks are registered."""
    with pytest.MonkeyPatch.context() as patch:
        builders = registry._BUILDERS | cifar_nets.BUILDERS | imagenet_nets.BUILDERS
        patch.setattr(registry, "_BUILDERS", builders)
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(torch.cuda, "device_count", lambda: 0)
        patch.setattr("urllib.request.urlopen", _offline)
        patch.setattr("urllib.request.urlretrieve", _offline)
        for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR"):
            patch.delenv(name, raising=False)
        yield patch


def _offline(*args, **kwargs):
    raise OSError("no network")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, patched):
    """The hostile files, with checkpoints of the tiny networks, as the working directory."""
    root = tmp_path_factory.mktemp("hostile")
    hostile_files.write(root)
    patched.chdir(root)
    for program, name in (("single", "tiny.lif.pth"), ("imagenet", "good.pth")):
        call(program, "" if program == "single" else "--name good")
        output = root / "out" / ("digits" if program == "single" else "imagenet")
        whole = torch.load(output / name, weights_only=True)
        for kind, content in hostile_files.CHECKPOINTS.items():
            (output / f"{kind}.pth").write_bytes(content(whole))
        (output / "folder.pth").mkdir()
        os.mkfifo(output / "pipe.pth")
        (output / "zero.pth").symlink_to("/dev/zero")
        (output / "link.pth").symlink_to("nowhere")
    _write_thresholds(root / "out" / "imagenet")
    return root


def _write_thresholds(output):
    names = ["storein1", "layer1[0].storein1", "layer1[0].storein2", "storein2", "storein3"]
    good = {name: torch.tensor(1.0) for name in names}
    for kind, value in (("nan", torch.tensor(float("nan"))), ("negative", torch.tensor(-1.0))):
        torch.save(good | {"storein1": value}, output / f"{kind}.dict")
    torch.save(good | {"storein1": "one"}, output / "text.dict")
    torch.save(good | {f"storein{k}\x1b": torch.ones(1) for k in range(99)}, output / "more.dict")


def call(program, line):
    """Run a program with these flags after those of `BASE`, and variables before a `--`."""
    environment = {}
    flags = [word.encode().decode("unicode_escape") for word in shlex.split(line)]
    if "--" in flags:
        end = flags.index("--")
        environment, flags = dict(word.split("=", 1) for word in flags[:end]), flags[end + 1 :]
    argv = [program, *shlex.split(BASE[program]), *flags]
    with mock.patch.object(sys, "argv", argv), mock.patch.dict(os.environ, environment):
        entry.run(PROGRAMS[program])


def listing(root):
    """Every file below `root` with its size and the time of its last change."""
    found = [path for path in root.rglob("*") if "dvs" not in path.parts]  # good ones are converted
    status = {path: path.lstat() for path in found}
    return {path: (entry.st_size, entry.st_mtime_ns) for path, entry in status.items()}


@contextmanager
def _within(seconds):
    """Raise TimeoutError where the body takes longer."""

    def interrupt(number, frame):
        raise TimeoutError(f"still running after {seconds} s")

    former = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)


@pytest.mark.parametrize(("program", "line", "words"), cases(), ids=str)
def test_hostile_flags(program, line, words, folder, capsys):
    before = listing(folder)
    names = {"long": LONG, "digits": "9" * 23, "port": str(ranks.free_port())}
    line, words = line.format(**names), [word.format(**names) for word in words]
    capsys.readouterr()
    with _within(SECONDS), pytest.raises(SystemExit) as ended:
        call(program, line)
    (error,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert error.startswith("error: ") and error.isprintable() and len(error) < 2000
    for word in words:
        assert word in error
    assert listing(folder) == before


@pytest.mark.filterwarnings("error")  # a warning would be more lines on stderr
@pytest.mark.parametrize(("program", "line"), [(p, line) for p in HARMLESS for line in HARMLESS[p]])
def test_strange_names(program, line, folder, capsys):
    call(program, line)
    printed = capsys.readouterr()
    assert printed.err == ""
    assert all(shown.isprintable() for shown in printed.out.splitlines())
