"""Kill a training run repeatedly at random moments; it must end like an undisturbed run.

    python tests/stress/kill_and_resume.py --kills 25 --signal SIGKILL --folder FOLDER

trains a small network on the digits undisturbed, then a second time with kills, each followed by
`--resume auto`, and compares weights, optimizer, random states and log bit for bit. With
`--seconds S` it stops after that time; the same call then continues.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
STEM = "tiny.lif"
FLAGS = (
    "tests/cifar/tiny_net.py cifar/main_single_gpu.py --dataset digits --path ./data "
    "--model tiny.lif --timesteps 2 --delta_t 0.5 --Vth 0.6 --dropout 0.2 --train-batch 64 "
    "--test-batch 200 --warmup 4 --lr 0.02 --compile off --manualSeed 3 --resume auto"
)
IGNORED = {"args"}  # they contain the names of the two runs


class Stress:
    """The two runs in `folder`, and how often the second has been killed."""

    def __init__(self, folder: Path, epochs: int, save_every: int, seed: int) -> None:
        self.folder, self.epochs, self.seed = folder, epochs, seed
        self.flags = [*FLAGS.split(), "-c", str(folder), "--epochs", str(epochs)]
        self.flags += ["--save_every", str(save_every)]
        self.notes = folder / "notes.json"
        self.state = {"starting": None, "seconds": None, "deaths": [], "ended": False}
        if self.notes.exists():
            self.state = json.loads(self.notes.read_text())

    def note(self) -> None:
        """Save the state of both runs."""
        self.notes.write_text(json.dumps(self.state))

    def start(self, name: str) -> subprocess.Popen:
        """Start or resume the run `name`."""
        return subprocess.Popen(
            [sys.executable, *self.flags, "--name", name],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def undisturbed(self) -> None:
        """Train without kills, unless that has been done, and measure the time."""
        if self.state["seconds"] is None:
            began = time.perf_counter()
            process, record = self.start("whole"), self.folder / "digits" / f"{STEM}whole.json"
            while process.poll() is None and not record.exists():
                time.sleep(0.01)
            self.state["starting"] = time.perf_counter() - began
            self.finish(process)
            self.state["seconds"] = time.perf_counter() - began - self.state["starting"]
            self.note()

    def finish(self, process: subprocess.Popen) -> None:
        """Wait for the end of a run, which must succeed."""
        out, _ = process.communicate()
        assert process.returncode == 0, out

    def wait(self, process: subprocess.Popen, kills: int) -> None:
        """Wait for a random moment: before the first step (one case in five) or some epochs later.

        Their number is drawn so that all kills fit into the remaining epochs.
        """
        done = len(self.state["deaths"])
        source = random.Random(self.seed * 1000 + done)
        if source.random() < 0.2:
            time.sleep(source.uniform(0.1, self.state["starting"]))
            return
        rows = self.rows()
        rows += int(source.uniform(0, 1.5 * (self.epochs - rows) / (kills - done + 1)))
        while process.poll() is None and self.rows() < rows:
            time.sleep(0.002)
        time.sleep(source.uniform(0, 3 * self.state["seconds"] / self.epochs))

    def rows(self) -> int:
        """Return the number of epochs in the log of the second run."""
        log = self.folder / "digits" / f"{STEM}broken.txt"
        return log.read_text().count("\n") - 1 if log.exists() else 0

    def kill(self, number: signal.Signals, kills: int) -> None:
        """Start or resume the second run and kill it at a random moment."""
        process = self.start("broken")
        self.wait(process, kills)
        if process.poll() is None:
            process.send_signal(number)
        asked = time.perf_counter()
        out, _ = process.communicate()
        death = {"status": process.returncode, "seconds": time.perf_counter() - asked}
        assert process.returncode in (-number, 128 + number, 0), out
        if process.returncode:
            self.state["deaths"].append(death | {"done": self.progress()})
        else:
            self.state["ended"] = True
        self.note()

    def progress(self) -> str:
        """Return the names of the checkpoints of the second run."""
        found = sorted((self.folder / "digits").glob(f"{STEM}broken*.pth"))
        return ", ".join(path.name.removeprefix(f"{STEM}broken") for path in found)

    def differences(self) -> list[str]:
        """Return where the results of the two runs differ."""
        logs, ends = zip(*(self._end(name) for name in ("whole", "broken")), strict=True)
        found = [] if logs[0] == logs[1] else ["the log"]
        return found + list(_differences(*ends))

    def _end(self, name: str) -> tuple[str, dict]:
        path = self.folder / "digits" / f"{STEM}{name}"
        content = torch.load(f"{path}.pth", map_location="cpu", weights_only=True)
        return Path(f"{path}.txt").read_text(), content


def _differences(one: object, two: object, where: str = "checkpoint"):
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        for key in one.keys() - IGNORED:
            yield from _differences(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)) and len(one) == len(two):
        for index, pair in enumerate(zip(one, two, strict=True)):
            yield from _differences(*pair, f"{where}[{index}]")
    elif isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        if not torch.equal(one, two):
            yield where
    elif one != two:
        yield where


def stress(args: argparse.Namespace) -> int:
    """Run the stress test; return how many kills remain."""
    args.folder.mkdir(parents=True, exist_ok=True)
    run, began = Stress(args.folder, args.epochs, args.save_every, args.seed), time.perf_counter()
    run.undisturbed()
    number = signal.Signals[args.signal]
    while len(run.state["deaths"]) < args.kills and not run.state["ended"]:
        if args.seconds and time.perf_counter() - began > args.seconds:
            return args.kills - len(run.state["deaths"])
        run.kill(number, args.kills)
    if not run.state["ended"]:
        run.finish(run.start("broken"))
    deaths = run.state["deaths"]
    different = run.differences()
    slowest = max((death["seconds"] for death in deaths), default=0.0)
    kinds = {death["status"] for death in deaths}
    print(
        f"{len(deaths)} kills by {args.signal} (exit statuses {sorted(kinds)}, dead after at most "
        f"{slowest:.1f} s): {', '.join(different) or 'no difference to the undisturbed run'}"
    )
    assert not different
    assert len(deaths) >= args.kills, "the run ended before; give it more --epochs"
    return 0


def main() -> None:
    """Parse the command line and run the stress test."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--signal", choices=("SIGKILL", "SIGTERM", "SIGINT"), default="SIGKILL")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--save_every", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, help="stop then; call again to continue")
    parser.add_argument("--folder", type=Path, required=True)
    if left := stress(parser.parse_args()):
        print(f"{left} kills remain: call again")


if __name__ == "__main__":
    main()
