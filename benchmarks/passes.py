"""Measure the passes over a current as eager torch, torch.compile and C++ compute them.

The current has the shape of a first-stage layer of preresnet.resnet18 at T = 20 and batch 8,
(20, 8192, 64). The figures are medians over rounds that alternate between the three.

    python benchmarks/passes.py
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from utils.system.allocator import tune_allocator  # noqa: E402

tune_allocator()

import torch  # noqa: E402

from benchmarks.machine import describe  # noqa: E402
from models import NeuronSetting  # noqa: E402
from models.dynamics import Dynamics  # noqa: E402
from models.engines.ops import dispatch  # noqa: E402
from models.engines.ops.reference import Affine  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each pass")
    args = parser.parse_args()
    print(*describe().values(), sep="; ")
    ways = {
        "eager": dispatch.Kernels(),
        "torch.compile": dispatch.by_torch(),
        "native": dispatch.compiled(torch.device("cpu")),
    }
    for dtype in (torch.float32, torch.bfloat16):
        for name, call in passes(dtype).items():
            times = measure({way: lambda k=k, call=call: call(k) for way, k in ways.items()}, args)
            shown = "  ".join(f"{way} {ms:6.2f}" for way, ms in times.items())
            print(f"{str(dtype):16} {name:12} ms  {shown}")


def passes(dtype: torch.dtype) -> dict:
    """Return each pass as a function of the kernels; a call restores the current it consumes."""
    d = Dynamics.leaky_integrate_and_fire(NeuronSetting(timesteps=20))
    y, Vth = torch.randn(20, 8192, 64).to(dtype), torch.tensor(0.3)
    affine = Affine(*(torch.rand(64) for _ in range(4)))
    mean, current = torch.randn(8192, 64), y.clone()
    g, means, bits = torch.randn(8192, 64), (y[0], y[1]), torch.randint(256, (65536,)).byte()

    def fresh(run):
        def call(kernels):
            current.copy_(y)
            return run(kernels)

        return call

    return {
        "copy": fresh(lambda k: None),
        "fold": fresh(lambda k: k.fold(current, mean, affine, Vth, d, dtype)),
        "spikes": fresh(lambda k: k.spikes(current, affine, Vth, d, dtype)),
        "statistics": fresh(lambda k: k.statistics_(current, True)),
        "add": fresh(lambda k: k.add_(current, y, Vth, None)),
        "fire_grad": lambda k: k.fire_grad(g, bits, bits, 0.5),
        "norm_sums": lambda k: k.norm_sums(g, y[0]),
        "norm_grad": lambda k: k.norm_grad(g, means, *affine[:3]),
    }


@torch.inference_mode()
def measure(calls: dict, args: argparse.Namespace) -> dict[str, float]:
    """Return the median milliseconds of each call."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(args.rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(times) for name, times in seconds.items()}


if __name__ == "__main__":
    main()
