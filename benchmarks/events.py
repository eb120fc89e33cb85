"""Measure event-driven convolutions and weight gradients against dense ones, by firing rate.

The layers are those of preresnet.resnet18 and vgg.vgg11. Figures are median milliseconds over
rounds that alternate between all ways; the crossing is the rate at which both take equally long.

    python benchmarks/events.py

measures this processor. To measure one with AVX2 alone, on a machine with more:

    CXXFLAGS=-march=haswell ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 \\
        python benchmarks/events.py
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from utils.system.allocator import tune_allocator  # noqa: E402

tune_allocator()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmarks.machine import describe  # noqa: E402
from models.engines.ops.sparse import events  # noqa: E402
from models.engines.ops.sparse.events import Options  # noqa: E402

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Layer(NamedTuple):
    """A convolution: channels in and out, side of the input, kernel, stride."""

    channels: int
    outputs: int
    side: int
    kernel: int = 3
    stride: int = 1

    @property
    def options(self) -> Options:
        return Options((self.stride,) * 2, (self.kernel // 2,) * 2)


LAYERS = {
    "resnet18": (
        Layer(64, 64, 32),
        Layer(64, 128, 32, stride=2),
        Layer(64, 128, 32, kernel=1, stride=2),
        Layer(128, 128, 16),
        Layer(128, 256, 16, stride=2),
        Layer(256, 256, 8),
        Layer(256, 512, 8, stride=2),
        Layer(256, 512, 8, kernel=1, stride=2),
        Layer(512, 512, 4),
    ),
    "vgg11": (
        Layer(64, 128, 24),
        Layer(128, 256, 12),
        Layer(256, 256, 12),
        Layer(256, 512, 6),
        Layer(512, 512, 6),
        Layer(512, 512, 3),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", nargs="+", default=list(LAYERS), choices=LAYERS)
    parser.add_argument("--precision", default="fp32", choices=DTYPES, help="of dense operands")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.01, 0.03, 0.1, 0.2])
    parser.add_argument("--images", type=int, default=160, help="timesteps times batch")
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each way")
    args = parser.parse_args()
    print(*describe().values(), sep="; ")
    for network in args.network:
        for layer in LAYERS[network]:
            for name, times in measure(layer, args).items():
                print(_line(network, layer, name, times))


def _line(network: str, layer: Layer, name: str, times: dict[float | None, float]) -> str:
    c, o, side, kernel, stride = layer
    shown = "  ".join(f"{r:.0%} {ms:6.2f}" for r, ms in times.items() if r is not None)
    head = f"{network:9}{c:4} -> {o:3} {side:2}x{side:<2} kernel {kernel} stride {stride} {name:12}"
    return f"{head} dense {times[None]:7.2f}  {shown}  crossing {crossing(times):.2f}"


def crossing(times: dict[float | None, float]) -> float:
    """Return the rate at which a line through the two highest rates reaches the dense time."""
    (low, a), (high, b) = sorted((r, ms) for r, ms in times.items() if r is not None)[-2:]
    return low + (high - low) * (times[None] - a) / (b - a) if b > a else float("inf")


@torch.inference_mode()
def measure(layer: Layer, args: argparse.Namespace) -> dict[str, dict[float | None, float]]:
    """Return the median milliseconds of both operations by rate; None is the dense way."""
    dtype = DTYPES[args.precision]
    weight = torch.randn(layer.outputs, layer.channels, layer.kernel, layer.kernel).to(dtype)
    weight = weight.contiguous(memory_format=torch.channels_last)
    calls: dict[str, dict[float | None, Callable]] = {"forward": {}, "weight grad": {}}
    for rate in (*args.rates, None):
        p = _spikes(layer, args.images, args.rates[-1] if rate is None else rate)
        dense = rate is None
        p = p.to(dtype) if dense else p
        y = torch.randn(len(p), layer.outputs, *layer.options.output_size(p, weight.shape[2:]))
        y = y.to(dtype).contiguous(memory_format=torch.channels_last)
        calls["forward"][rate] = _forward(p, weight, layer.options, dense)
        calls["weight grad"][rate] = _weight_grad(p, weight.shape, y, layer.options, dense)
    return {name: _medians(ways, args.rounds) for name, ways in calls.items()}


def _spikes(layer: Layer, images: int, rate: float) -> Tensor:
    p = torch.rand(images, layer.channels, layer.side, layer.side) < rate
    return p.to(torch.uint8).contiguous(memory_format=torch.channels_last)


def _forward(p: Tensor, weight: Tensor, options: Options, dense: bool) -> Callable:
    if dense:
        return lambda: events.conv2d_dense(p, weight, None, options)
    return lambda: events.conv2d(p, weight, None, options, binary=True)


def _weight_grad(p: Tensor, shape: torch.Size, dy: Tensor, options: Options, dense: bool):
    if dense:
        return lambda: events.conv2d_weight_dense(p, shape, dy, options)
    return lambda: events.conv2d_weight(p, shape, dy, options, binary=True)


def _medians(calls: dict[float | None, Callable], rounds: int) -> dict[float | None, float]:
    seconds: dict[float | None, list[float]] = {rate: [] for rate in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for rate, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[rate].append(time.perf_counter() - start)
    return {rate: 1e3 * statistics.median(times) for rate, times in seconds.items()}


if __name__ == "__main__":
    main()
