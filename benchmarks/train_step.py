"""Measure time and peak memory of a training step, by engine, precision, timesteps and batch.

The baseline `published` computes as the published code does (benchmarks/published.py), with the
default settings of the memory allocator. `published, tuned` is the same with the settings of this
project's scripts (utils/system/allocator.py), which all other ways use. `convolutions` is a lower
bound for dense bf16: its T-step forward convolutions and temporal covariances (one weight gradient
each), and nothing else. `spikingjelly` has SpikingJelly's neurons, if installed. `folded` computes
convolutions of spikes event-driven where that is faster, so that its time depends on the firing
rate; `--rate` sets it. Every measurement runs in its own process. Rounds alternate between all of
them; the figures are medians over the rounds, with minimum and maximum.

    python benchmarks/train_step.py --out benchmarks/results/train_step
    python benchmarks/train_step.py --rate 0.09 --ways published 'folded fp32' --evaluate
"""

from __future__ import annotations

import argparse
import ctypes
import json
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from utils.system.allocator import tune_allocator  # noqa: E402

if "--one" in sys.argv and "published" not in sys.argv:  # in a process of its own, see _process
    tune_allocator()

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from benchmarks.firing_rate import (  # noqa: E402
    mean_rate,
    set_mean_rate,
    set_running_statistics,
)
from benchmarks.machine import describe  # noqa: E402
from benchmarks.plots import draw_train_step  # noqa: E402
from benchmarks.published import as_published  # noqa: E402
from benchmarks.spikingjelly_neurons import with_spikingjelly  # noqa: E402
from models import NeuronSetting, create_model  # noqa: E402
from models.engines.ops.linear import Conv2d  # noqa: E402

WAYS = {  # name -> configure's choices; None for the anchors
    "published": None,
    "published, tuned": None,
    "spikingjelly": None,
    "convolutions": None,
    "unrolled fp32": {"engine": "unrolled"},
    "folded fp32": {"engine": "folded"},
    "folded fp32, dense": {"engine": "folded", "event_driven": "never"},
    "folded bf16": {"engine": "folded", "precision": "bf16"},
    "rate bf16": {"engine": "rate", "precision": "bf16"},
}
OPTIONAL = ("spikingjelly",)  # measured only if named
BASELINES = {
    "published": as_published,
    "published, tuned": as_published,
    "spikingjelly": with_spikingjelly,
}


def main() -> None:
    args = _parser().parse_args()
    if args.one:
        print(json.dumps(measure(args)))
        return
    rows = _rounds(args)
    print(_table(rows))
    if args.out:
        kind = "evaluation" if args.evaluate else "training step"
        title = f"{args.model}: one {kind}"
        command = shlex.join(["python", *sys.argv])
        report = {"title": title, "machine": describe(), "command": command, "rows": rows}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
        draw_train_step(report, args.out.with_suffix(".png"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="preresnet.resnet18_lif")
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--timesteps", type=int, nargs="+", default=[20])
    default = [way for way in WAYS if way not in OPTIONAL]
    parser.add_argument("--ways", nargs="+", default=default, choices=WAYS)
    parser.add_argument("--rate", type=float, help="mean firing rate that thresholds are set for")
    parser.add_argument("--evaluate", action="store_true", help="inference instead of training")
    parser.add_argument("--rounds", type=int, default=3, help="processes per measurement")
    parser.add_argument("--steps", type=int, default=3, help="timed steps per process")
    parser.add_argument("--compile", default="on", choices=("on", "off"))
    parser.add_argument("--out", type=Path, help="file stem of the report (.json, .png)")
    parser.add_argument("--Vth", type=float, default=NeuronSetting().Vth, help="threshold")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return parser


def _rounds(args: argparse.Namespace) -> list[dict]:
    """Measure all ways in turn, `--rounds` times; return one row of medians per case and way."""
    cases = [(T, N, way) for T in args.timesteps for N in args.batch for way in args.ways]
    firing = {(T, N): _firing(args, T, N) for T in args.timesteps for N in args.batch}
    runs: dict[tuple, list[dict]] = {case: [] for case in cases}
    for round_ in range(args.rounds):
        for case in cases:
            runs[case].append(_process(args, *case, firing[case[:2]]["Vth"]))
            last = runs[case][-1]
            name = f"T {case[0]}  N {case[1]}  {case[2]}"
            print(f"round {round_ + 1}: {name:30} {last['seconds']:.3f} s", file=sys.stderr)
    return [{**_row(*case, runs[case]), **firing[case[:2]]} for case in cases]


def _firing(args: argparse.Namespace, timesteps: int, batch: int) -> dict:
    """Return the threshold and the mean firing rate of the untrained network."""
    model = _model(args, timesteps)
    model.configure(engine="folded", compile=args.compile)
    images, _ = _images(model, timesteps, batch, torch.device("cpu"))
    if args.rate:
        set_mean_rate(model, images, args.rate)
    rate = mean_rate(model, images)
    Vth = next(iter(model.neurons().values())).Vth.item()
    print(f"T {timesteps}  N {batch}  Vth {Vth:.4g}: mean rate {rate:.4f}", file=sys.stderr)
    return {"Vth": Vth, "rate": rate}


def _model(args: argparse.Namespace, timesteps: int) -> nn.Module:
    torch.manual_seed(0)
    return create_model(args.model, NeuronSetting(timesteps=timesteps, Vth=args.Vth), dropout=0.0)


def _process(args: argparse.Namespace, timesteps: int, batch: int, way: str, Vth: float) -> dict:
    command = [sys.executable, __file__, "--one", "--model", args.model, "--ways", way]
    command += ["--timesteps", str(timesteps), "--batch", str(batch), "--steps", str(args.steps)]
    command += ["--compile", args.compile, "--Vth", repr(Vth)] + ["--evaluate"] * args.evaluate
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{way}, T {timesteps}, batch {batch} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _row(timesteps: int, batch: int, way: str, runs: list[dict]) -> dict:
    seconds = [run["seconds"] for run in runs]
    return {
        "way": way,
        "timesteps": timesteps,
        "batch": batch,
        "seconds": statistics.median(seconds),
        "least": min(seconds),
        "most": max(seconds),
        "peak_mib": statistics.median(run["peak_mib"] for run in runs),
    }


def measure(args: argparse.Namespace) -> dict:
    """Return the median seconds per step and the peak MiB above the level before the first step.

    A step of a small batch precedes both, so that the memory of compilers is not counted.
    """
    (way,), (timesteps,), (batch,) = args.ways, args.timesteps, args.batch
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = _model(args, timesteps).to(device)
    if args.evaluate:
        model.configure(engine="folded", compile=args.compile)
        set_running_statistics(model, _images(model, timesteps, batch, device)[0])
    step = _step(args, way, model, device)
    step(2)
    peak = Peak(device)
    step(batch)
    seconds = []
    for _ in range(args.steps):
        start = time.perf_counter()
        step(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds), "peak_mib": peak.mib()}


def _step(args: argparse.Namespace, way: str, model: nn.Module, device: torch.device):
    """Return a function of the batch size that runs one training step, or one inference."""
    if way == "convolutions":
        return _convolutions(model, args.timesteps[0], device, args.evaluate)
    if way in BASELINES:
        BASELINES[way](model)
    else:
        compiles = "on" if args.compile == "on" and WAYS[way]["engine"] != "unrolled" else "off"
        model.configure(**WAYS[way], compile=compiles)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    model.train(not args.evaluate)

    def train(batch: int) -> None:
        x, y = _images(model, args.timesteps[0], batch, device)
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    @torch.inference_mode()
    def evaluate(batch: int) -> None:
        x, _ = _images(model, args.timesteps[0], batch, device)
        model(x)

    return evaluate if args.evaluate else train


def _images(model: nn.Module, timesteps: int, batch: int, device: torch.device):
    frames = model.in_channels == 2
    shape = (batch, timesteps, 2, 48, 48) if frames else (batch, 3, 32, 32)
    g = torch.Generator().manual_seed(batch)
    x, y = torch.randn(shape, generator=g), torch.randint(10, (batch,), generator=g)
    return x.to(device), y.to(device)


def _convolutions(model: nn.Module, timesteps: int, device: torch.device, forward_only: bool):
    """Return a function of the batch size that runs the convolutions and covariances alone."""
    shapes = _convolution_inputs(model, device)

    @torch.inference_mode()
    def step(batch: int) -> None:
        for conv, static, size in shapes:
            rows = batch if static else timesteps * batch
            p = torch.zeros(rows, *size, dtype=torch.bfloat16, device=device)
            p = p.contiguous(memory_format=torch.channels_last)
            weight = conv.weight.bfloat16().contiguous(memory_format=torch.channels_last)
            linear = Conv2d(conv.stride, conv.padding, conv.dilation, conv.groups)
            y = linear(p, weight, None)
            if not static and not forward_only:
                linear.weight_grad(y, p, weight.shape)

    return step


def _convolution_inputs(model: nn.Module, device: torch.device) -> list[tuple]:
    """Return each convolution, whether its input is the static image, and the input `(C, H, W)`."""
    found: list[tuple] = []
    hooks = [
        m.register_forward_pre_hook(
            lambda m, args: found.append((m, m.in_channels == 3, args[0].shape[1:]))
        )
        for m in model.modules()
        if isinstance(m, nn.Conv2d)
    ]
    model.configure(engine="unrolled")
    with torch.no_grad():
        model.eval()(_images(model, model.setting.timesteps, 1, device)[0])
    for hook in hooks:
        hook.remove()
    return found


class Peak:
    """The peak memory since the construction of this object, above the level at that time."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            # Memory that is free but kept would not count when it is used again.
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
        self.level = self._held()

    def _held(self) -> float:
        if self.cuda:
            return torch.cuda.max_memory_allocated() / 2**20
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def mib(self) -> float:
        return self._held() - self.level


def _table(rows: list[dict]) -> str:
    """Return the rows as a Markdown table, with ratios to `published` of the same T and batch."""
    head = "| T | N | way | s/step (least-most) | faster | peak MiB | of published |\n"
    lines = [head + "|---|---|---|---|---|---|---|"]
    for row in rows:
        same = [r for r in rows if (r["timesteps"], r["batch"]) == (row["timesteps"], row["batch"])]
        base = next((r for r in same if r["way"] == "published"), None)
        faster = f"{base['seconds'] / row['seconds']:.2f}x" if base else ""
        share = f"{row['peak_mib'] / base['peak_mib']:.3f}" if base else ""
        span = f"{row['seconds']:.3f} ({row['least']:.3f}-{row['most']:.3f})"
        lines.append(
            f"| {row['timesteps']} | {row['batch']} | {row['way']} | {span} | {faster} "
            f"| {row['peak_mib']:.0f} | {share} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
