"""Check the project on a GPU, and write the results as JSON and as a page to attach to an issue.

bash scripts/gpu_check.sh
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import step_counts, train_step  # noqa: E402
from benchmarks.machine import describe  # noqa: E402
from benchmarks.step_counts import Case  # noqa: E402
from models import NeuronSetting  # noqa: E402

Rows = list[dict[str, Any]]
TOLERANCE = 0.1  # of counted memory, for the rounding of the allocator and for workspaces
TESTS = ("tests",)
TINY_TESTS = ("-n0", "tests/models/test_on_device.py")
CASES = (
    Case("preresnet.resnet18_lif", 20, 128, 32),
    Case("vgg.vgg11_lif", 20, 64, 48),
    Case("preresnet_snn.resnet18_if", 50, 8, 224),
)
TINY_CASES = (Case("vgg.vgg11_lif", 2, 2, 32),)
COUNTED = ("folded fp32", "folded bf16")  # `published` may not fit
TIMED = ("published", "unrolled fp32", "folded fp32", "folded bf16", "rate bf16")
TRAINING = ["--dataset", "digits", "--epochs", "5", "--train-batch", "64", "--warmup", "20"]
TRAINING += ["--model", "preresnet.resnet18_lif", "--timesteps", "5", "--precision", "bf16"]
TINY_TRAINING = ["--dataset", "digits", "--epochs", "1", "--train-batch", "256"]
TINY_TRAINING += ["--import", "tests/own_networks.py", "--model", "mine.cnn", "--timesteps", "2"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a minute's worth, to try the program")
    parser.add_argument("--out", type=Path, default=Path("gpu_check"), help="folder of the results")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: torch finds no GPU; install a driver, or try --device cpu --tiny")
    args.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"machine": machine(args.device), "parts": {}}
    for name, part in PARTS.items():
        print(f"{name} ...", flush=True)
        results["parts"][name] = attempt(part, args)
        (args.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        (args.out / "page.md").write_text(page(results))
    failed = [name for name, part in results["parts"].items() if not part["ok"]]
    print(f"{', '.join(failed) or 'nothing'} failed; attach {args.out}/page.md to an issue")
    sys.exit(1 if failed else 0)


def machine(device: str) -> dict[str, str]:
    """Return processor, device and versions."""
    found = describe()
    if device == "cuda":
        gpu = torch.cuda.get_device_properties(0)
        found["GPU"] = f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, sm_{gpu.major}{gpu.minor}"
        found["CUDA"] = str(torch.version.cuda)
    return found


def attempt(part: Callable[[argparse.Namespace], dict], args: argparse.Namespace) -> dict[str, Any]:
    """Return what a part finds, with its seconds; a failure of the part itself is a finding."""
    start = time.perf_counter()
    try:
        found = part(args)
    except Exception:  # the other parts are still of interest
        found = {"ok": False, "error": traceback.format_exc()}
    return found | {"seconds": round(time.perf_counter() - start, 1)}


def tests(args: argparse.Namespace) -> dict[str, Any]:
    """Run the tests, which use a GPU where there is one."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    done = run([*command, *(TINY_TESTS if args.tiny else TESTS)])
    lines = done.stdout.strip().splitlines()
    failures = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"ok": done.returncode == 0, "summary": lines[-1], "failures": failures}


def memory(args: argparse.Namespace) -> dict[str, Any]:
    """Compare the counted peak of a training step with the allocated one."""
    rows: Rows = []
    for case in TINY_CASES if args.tiny else CASES:
        for way in COUNTED:
            counted = step_counts.count(case, way).peak
            allocated = allocated_peak(case, way, args.device)
            names = {"network": case.model, "T": case.timesteps, "batch": case.batch, "way": way}
            mib = {"counted MiB": counted / 2**20, "allocated MiB": allocated / 2**20}
            rows.append(names | mib | {"allocated / counted": allocated / counted})
    ok = all(abs(row["allocated / counted"] - 1) <= TOLERANCE for row in rows)
    return {"ok": ok, "rows": rows}


def allocated_peak(case: Case, way: str, device: str) -> int:
    """Return the most bytes that a real step holds: as the allocator, or on a CPU the count, says.

    The first step compiles and initialises libraries; the second one is measured.
    """
    if device == "cpu":
        return step_counts.count(case, way, device).peak
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    step = step_counts.Step(case, way, device)
    step.run()
    torch.cuda.reset_peak_memory_stats()
    step.run()
    return torch.cuda.max_memory_allocated() - before


def speed(args: argparse.Namespace) -> dict[str, Any]:
    """Time training steps of all engines and of the published way, in turn."""
    rounds = 1 if args.tiny else 3
    model, side, ways = "preresnet.resnet18_lif", {"timesteps": [20], "batch": [128]}, TIMED
    if args.tiny:
        model, side, ways = "vgg.vgg11_lif", {"timesteps": [2], "batch": [2]}, TIMED[::3]
    base = {"model": model, "steps": 1 if args.tiny else 10, "compile": "on", "evaluate": False}
    base["Vth"] = NeuronSetting().Vth
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            flags = argparse.Namespace(**base, **side, ways=[way])
            seconds[way].append(train_step.measure(flags)["seconds"])
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    rows = [
        {"way": way, "ms per step": 1e3 * s, "speed-up": medians["published"] / s}
        for way, s in medians.items()
    ]
    return {"ok": True, "rows": rows, "case": {"network": model, **side}}


def training(args: argparse.Namespace) -> dict[str, Any]:
    """Train a network on the embedded digits."""
    flags = TINY_TRAINING if args.tiny else TRAINING
    command = [sys.executable, "cifar/main_single_gpu.py", *flags, "--manualSeed", "1"]
    done = run([*command, "--checkpoint", str(args.out.resolve()), "--name", "_gpu_check"])
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return {"ok": done.returncode == 0, "lines": lines[-30:]}


def run(command: list[str]) -> subprocess.CompletedProcess:
    """Run a command in the repository and return its output."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


PARTS = {"tests": tests, "memory": memory, "speed": speed, "training": training}


def page(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = ["# GPU check", ""]
    lines += [f"- {name}: {value}" for name, value in results["machine"].items()]
    for name, part in results["parts"].items():
        verdict = "passed" if part["ok"] else "FAILED"
        lines += ["", f"## {name}: {verdict} ({part['seconds']} s)", ""]
        lines += [f"`{part['case']}`", ""] if "case" in part else []
        lines += table(part["rows"]) if "rows" in part else []
        lines += [part["summary"], ""] if "summary" in part else []
        text = [*part.get("failures", []), *part.get("lines", []), part.get("error", "")]
        lines += ["```", *filter(None, text), "```"] if any(text) else []
    return "\n".join(lines) + "\n"


def table(rows: Rows) -> list[str]:
    """Return rows as lines of a Markdown table, numbers with three digits."""
    heads = list(rows[0])
    cells = [
        [f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()]
        for row in rows
    ]
    return [f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *cells)]


if __name__ == "__main__":
    main()
