"""Model the time of a training step on many nodes, from measurements of one and two processes.

Every process keeps its batch, so an ideal step takes as long as with one process. Gradients are
all-reduced in the buckets that DistributedDataParallel fills, from the last parameter to the first.
The ring all-reduce of a bucket of b bytes over P processes, with links of bandwidth B and latency
a, takes

    t(b) = 2 (P-1)/P b/B + 2 (P-1) a

and starts when the backward pass has filled the bucket and the previous bucket is done. The step
ends with the later of the backward pass and the last bucket, followed by the optimizer. Measured
are the times at which gradients are ready, and B and a between two processes on this machine; B
and a of other links are assumptions.

    python benchmarks/scaling.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from utils.system.allocator import tune_allocator  # noqa: E402

tune_allocator()

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from benchmarks.machine import describe  # noqa: E402
from models import NeuronSetting, create_model  # noqa: E402
from utils.distributed.launch_env import connect  # noqa: E402
from utils.distributed.rendezvous import free_port  # noqa: E402
from utils.distributed.spawn import spawn  # noqa: E402
from utils.distributed.world import World  # noqa: E402

FIRST_BUCKET, BUCKET = 2**20, 25 * 2**20  # bytes: what DistributedDataParallel fills them to
GIGABIT = 1e9 / 8


class Link(NamedTuple):
    """Bandwidth (bytes per second) and latency (seconds) between two neighbours of the ring."""

    bandwidth: float
    latency: float

    def all_reduce(self, size: float, processes: int) -> float:
        """Return the seconds of a ring all-reduce of `size` bytes."""
        hops = 2 * (processes - 1)
        return hops / processes * size / self.bandwidth + hops * self.latency


class Compute(NamedTuple):
    """Times within a step of one process, in seconds from its start.

    `backward` is the end of the backward pass, `whole` the end of the step, and `gradients` holds
    `(seconds, bytes)` of each gradient, in the order in which they are ready.
    """

    backward: float
    whole: float
    gradients: tuple[tuple[float, int], ...]

    def faster(self, factor: float) -> Compute:
        """Return the times on a device `factor` times as fast."""
        ready = tuple((seconds / factor, size) for seconds, size in self.gradients)
        return Compute(self.backward / factor, self.whole / factor, ready)


def buckets(gradients: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """Return `(seconds, bytes)` of each bucket; gradients fill them in the order given."""
    filled, seconds, size, limit = [], 0.0, 0, FIRST_BUCKET
    for ready, gradient in gradients:
        seconds, size = max(seconds, ready), size + gradient
        if size >= limit:
            filled.append((seconds, size))
            size, limit = 0, BUCKET
    return filled + [(seconds, size)] * (size > 0)


def step_seconds(compute: Compute, link: Link, processes: int) -> float:
    """Return the modelled seconds of a step of so many processes."""
    through = 0.0
    for ready, size in buckets(compute.gradients):
        through = max(through, ready) + link.all_reduce(size, processes)
    return max(compute.backward, through) + compute.whole - compute.backward


def measure(args: argparse.Namespace, world: World) -> Compute:
    """Return the times of a step of this process, medians over several steps."""
    torch.manual_seed(0)
    setting = NeuronSetting(timesteps=args.timesteps)
    model = create_model(args.model, setting, dropout=0.0).to(world.device)
    model.configure(engine="folded", precision=args.precision, compile="off")
    wrapped = world.wrap(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    images = torch.randn(args.batch, 3, 32, 32, device=world.device)
    labels = torch.arange(args.batch, device=world.device) % 10
    now = _clock(world.device)
    ready: dict[nn.Parameter, list[float]] = {parameter: [] for parameter in model.parameters()}
    for parameter in ready:
        parameter.register_post_accumulate_grad_hook(lambda p: ready[p].append(now() - started))
    backward, whole = [], []
    for _ in range(args.steps + 1):
        started = now()
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(wrapped(images), labels).backward()
        backward.append(now() - started)
        optimizer.step()
        whole.append(now() - started)
    gradients = [
        (statistics.median(times[1:]), parameter.numel() * parameter.element_size())
        for parameter, times in ready.items()
    ]
    middle = [statistics.median(times[1:]) for times in (backward, whole)]
    return Compute(*middle, tuple(sorted(gradients, key=lambda gradient: gradient[0])))


def measure_link(world: World, repeats: int = 5) -> Link:
    """Return the link between two processes, from all-reduces of 4 bytes and of a full bucket."""
    now, seconds = _clock(world.device), []
    for count in (1, BUCKET // 4):
        tensor = torch.ones(count, device=world.device)
        times = []
        for _ in range(repeats + 1):
            world.barrier()
            started = now()
            world.all_reduce_sum(tensor)
            times.append(now() - started)
        seconds.append(statistics.median(times[1:]))
    small, large = seconds
    return Link(BUCKET / (large - small), small / 2)


def _clock(device: torch.device) -> Callable[[], float]:
    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return now


def _process(index: int, args: argparse.Namespace, processes: int, port: int, out: Path) -> None:
    """Measure as process `index`; without a GPU, every process has one thread."""
    torch.set_num_threads(1)
    cuda = torch.cuda.device_count() >= processes
    device = torch.device("cuda", index) if cuda else torch.device("cpu")
    backend, url = "nccl" if cuda else "gloo", f"tcp://127.0.0.1:{port}"
    alone = processes == 1
    with World(device) if alone else connect(url, backend, index, processes, device) as world:
        found = {"compute": measure(args, world)}
        if processes > 1:
            found["link"] = measure_link(world)
        if world.is_main:
            out.write_text(json.dumps(found))


def _measured(args: argparse.Namespace, processes: int) -> tuple[Compute, Link | None]:
    with TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        spawn(_process, processes, args, processes, free_port(), out)
        found = json.loads(out.read_text())
    link = Link(*found["link"]) if "link" in found else None
    return Compute(*found["compute"]), link


def build_parser() -> argparse.ArgumentParser:
    """Return the flags of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="preresnet.resnet18_lif")
    parser.add_argument("--batch", type=int, default=16, help="samples per process")
    parser.add_argument("--timesteps", type=int, default=4)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--steps", type=int, default=8, help="steps to time")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument(
        "--links",
        type=float,
        nargs="+",
        default=[1, 10, 100],
        help="bandwidths to model, in Gbit/s",
    )
    parser.add_argument(
        "--latency", type=float, default=20e-6, help="latency of these links in seconds"
    )
    parser.add_argument(
        "--faster",
        type=float,
        nargs="+",
        default=[1, 100],
        help="speeds of devices to model, relative to this one",
    )
    return parser


def main(args: argparse.Namespace) -> None:
    """Print the measurements, then the table of the model."""
    (one, _), (two, link) = _measured(args, 1), _measured(args, 2)
    size = sum(gradient for _, gradient in one.gradients)
    print(*describe().values(), sep="; ")
    print(
        f"{args.model}, T = {args.timesteps}, batch {args.batch} per process, {args.precision}: "
        f"{size / 1e6:.1f} MB of gradients in {len(buckets(one.gradients))} buckets"
    )
    print(f"link here: {link.bandwidth / GIGABIT:.1f} Gbit/s, {link.latency * 1e6:.0f} us")
    print("| processes | s per step, measured | model |\n|---|---|---|")
    print(f"| 1 | {one.whole:.3f} | {step_seconds(one, link, 1):.3f} |")
    print(f"| 2 | {two.whole:.3f} | {step_seconds(one, link, 2):.3f} |")
    print(table(args, one))


def table(args: argparse.Namespace, one: Compute) -> str:
    """Return the modelled seconds per step and the share of the ideal speed as a Markdown table."""
    columns = [(factor, gigabits) for factor in args.faster for gigabits in args.links]
    heads = [f"{factor:g}x device, {gigabits:g} Gbit/s" for factor, gigabits in columns]
    lines = [f"| nodes | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for nodes in args.nodes:
        cells = []
        for factor, gigabits in columns:
            compute = one.faster(factor)
            seconds = step_seconds(compute, Link(gigabits * GIGABIT, args.latency), nodes)
            cells.append(f"{seconds:.4f} ({100 * compute.whole / seconds:.0f} %)")
        lines.append(f"| {nodes} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(build_parser().parse_args())
