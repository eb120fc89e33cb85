"""What a training step takes on many nodes: a model of it, beside one and two processes measured.

Each process keeps its batch, so the ideal step takes as long as that of one process. Gradients
travel in buckets as DistributedDataParallel fills them, from the last parameter to the first. A
bucket of b bytes is on its way round a ring of P processes, links of B bytes/s and latency a, for

    t(b) = 2 (P-1)/P b/B + 2 (P-1) a

and starts when the backward pass has filled it and the bucket before is through: the step ends with
the later of the backward pass and the last bucket, and then the optimizer. When gradients are ready
is measured; so are B and a between two processes on this machine. Those of other links are given.

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
from utils.distributed.rendezvous import free_port  # noqa: E402
from utils.distributed.spawn import spawn  # noqa: E402
from utils.distributed.world import World, connect  # noqa: E402

FIRST_BUCKET, BUCKET = 2**20, 25 * 2**20  # bytes: what DistributedDataParallel fills them to
GIGABIT = 1e9 / 8


class Link(NamedTuple):
    """Bytes a second between two neighbours of the ring, and the seconds until the first comes."""

    bandwidth: float
    latency: float

    def all_reduce(self, size: float, processes: int) -> float:
        """Seconds to sum `size` bytes over a ring."""
        hops = 2 * (processes - 1)
        return hops / processes * size / self.bandwidth + hops * self.latency


class Compute(NamedTuple):
    """Seconds of a step of one process, and `(seconds, bytes)` of each gradient, as it is ready.

    These seconds count from the start of the step, `backward` is when the backward pass ends.
    """

    backward: float
    whole: float
    gradients: tuple[tuple[float, int], ...]

    def faster(self, factor: float) -> Compute:
        """The same on a device `factor` times as fast."""
        ready = tuple((seconds / factor, size) for seconds, size in self.gradients)
        return Compute(self.backward / factor, self.whole / factor, ready)


def buckets(gradients: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """`(seconds, bytes)` of each bucket, filled by gradients in the order they are ready."""
    filled, seconds, size, limit = [], 0.0, 0, FIRST_BUCKET
    for ready, gradient in gradients:
        seconds, size = max(seconds, ready), size + gradient
        if size >= limit:
            filled.append((seconds, size))
            size, limit = 0, BUCKET
    return filled + [(seconds, size)] * (size > 0)


def step_seconds(compute: Compute, link: Link, processes: int) -> float:
    """Seconds of a step of so many processes."""
    through = 0.0
    for ready, size in buckets(compute.gradients):
        through = max(through, ready) + link.all_reduce(size, processes)
    return max(compute.backward, through) + compute.whole - compute.backward


def measure(args: argparse.Namespace, world: World) -> Compute:
    """One process's compute, medians over steps, its gradients exchanged if there are several."""
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
    """The link between two processes, from the time they take to sum little and much."""
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
    """Measure as one of one or two processes, on a thread each where there is no GPU."""
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
    """Return the parser of what is measured and of what is assumed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="preresnet.resnet18_lif")
    parser.add_argument("--batch", type=int, default=16, help="of a process")
    parser.add_argument("--timesteps", type=int, default=4)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--steps", type=int, default=8, help="timed steps a process")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--links", type=float, nargs="+", default=[1, 10, 100], help="Gbit/s")
    parser.add_argument("--latency", type=float, default=20e-6, help="of these links, seconds")
    parser.add_argument(
        "--faster", type=float, nargs="+", default=[1, 100], help="devices, times as fast as here"
    )
    return parser


def main(args: argparse.Namespace) -> None:
    """Print the points measured, then the table of the model."""
    (one, _), (two, link) = _measured(args, 1), _measured(args, 2)
    size = sum(gradient for _, gradient in one.gradients)
    print(describe())
    print(
        f"{args.model}, T = {args.timesteps}, batch {args.batch} a process, {args.precision}: "
        f"{size / 1e6:.1f} MB of gradients in {len(buckets(one.gradients))} buckets"
    )
    print(f"link here: {link.bandwidth / GIGABIT:.1f} Gbit/s, {link.latency * 1e6:.0f} us")
    print("| processes | s a step, measured | model |\n|---|---|---|")
    print(f"| 1 | {one.whole:.3f} | {step_seconds(one, link, 1):.3f} |")
    print(f"| 2 | {two.whole:.3f} | {step_seconds(one, link, 2):.3f} |")
    print(table(args, one))


def table(args: argparse.Namespace, one: Compute) -> str:
    """The model's seconds a step and share of the ideal speed, in Markdown."""
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
