"""Count the memory of a step on a GPU, which need not be there, by engine, precision and batch.

python -m utils.estimate --model preresnet.resnet18_lif --timesteps 20 --memory 24
python -m utils.estimate imagenet --arch preresnet_snn.resnet18_if --batches 16 32
"""

from __future__ import annotations

import functools
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

import cifar.datasets
import cifar.options
import imagenet.options
from models import NeuronSetting, create_model
from models.engines.select import ENGINES, PRECISIONS
from models.network import Network, SpikingNetwork
from models.user_networks import build_on_meta, import_networks
from utils.device.step_memory import LEAST, count_evaluation, count_training_step, largest_batch
from utils.optimization import optimizer
from utils.system.entry import run
from utils.system.errors import UserError, flag_errors
from utils.system.flags import above, at_least
from utils.system.text import print_line

GIB = 2**30
USABLE = 0.9  # of the memory: the rest goes to fragments and to the libraries
SCRIPTS = ("cifar", "imagenet")
LONG_RUN = 10**9  # images times timesteps: enough for `--compile auto` to compile
CLASSES = {"cifar100": 100, "imagenet": 1000, "DVS128Gesture": 11, "NCaltech101": 101}
# Other data sets have 10.


class Way(NamedTuple):
    """How a network is computed; a network without spikes has no engine."""

    engine: str | None
    precision: str


def build_parser(script: str) -> ArgumentParser:
    """Return the parser of a training script, with the flags of this program."""
    if script == "imagenet":
        parser = imagenet.options.build_parser()
        parser.set_defaults(dataset="imagenet", dropout=None)
    else:
        parser = cifar.options.build_parser(multi=False)
    parser.prog = f"python -m utils.estimate [{' | '.join(SCRIPTS)}]"
    parser.description = __doc__.splitlines()[0]
    group = parser.add_argument_group("estimate")
    group.add_argument("--memory", type=above(0), help="GiB of a GPU, to find the largest batch")
    group.add_argument(
        "--batches", type=at_least(LEAST), nargs="+", help="images per pass; else the batch size"
    )
    return parser


def main() -> None:
    """Print a table with a row for each engine and precision; `--engine`, `--precision` choose."""
    script, flags = SCRIPTS[0], sys.argv[1:]
    if flags and flags[0] in SCRIPTS:
        script, *flags = flags
    args = build_parser(script).parse_args(flags)
    args.script = script
    network, classes = _names(args)
    with flag_errors("--arch" if script == "imagenet" else "--model"):
        import_networks(args.imports or [])
        model = build_on_meta(network, NeuronSetting.from_args(args))
        shape = _sample_shape(args, model)
        _print_header(args, network, shape)
        batches = args.batches or [args.batch_size if script == "imagenet" else args.train_batch]
        columns = ["engine", "precision", *(f"{n} images" for n in batches)]
        print_line(_row([*columns, *([f"fits {args.memory:g} GiB"] if args.memory else [])]))
        print_line(_row(["---"] * (len(columns) + bool(args.memory))))
        for way in _ways(args, model):
            peak = _peak(args, way, network, classes, shape)
            cells = [way.engine or "autograd", way.precision]
            cells += [f"{peak(n) / GIB:.2f} GiB" for n in batches]
            if args.memory:
                cells.append(f"{largest_batch(peak, USABLE * args.memory * GIB)} images")
            print_line(_row(cells))


def _names(args: Namespace) -> tuple[str, int]:
    """Return the network and the number of classes that the flags name."""
    network = args.arch if args.script == "imagenet" else args.model
    return network, CLASSES.get(args.dataset, 10)


def _sample_shape(args: Namespace, network: Network) -> tuple[int, ...]:
    """Return the shape of one sample; raises `UserError` where the network takes another one."""
    if args.script == "imagenet":
        shape = (3, args.image_size, args.image_size)
    else:
        shape = cifar.datasets.sample_shape(args.dataset, args.timesteps)
    if network.in_channels != shape[-3]:
        raise UserError(
            f"--dataset {args.dataset}: it has {shape[-3]} channels, the network takes "
            f"{network.in_channels}; name the data set that it is for"
        )
    return shape


def _print_header(args: Namespace, network: str, shape: tuple[int, ...]) -> None:
    what = "an evaluation step" if args.evaluate else f"a training step, {args.optimizer}"
    sample = "x".join(map(str, shape))
    usable = f"; of --memory, {USABLE:.0%} are taken as usable" if args.memory else ""
    print_line(
        f"{network}, --timesteps {args.timesteps}, samples {sample}: peak memory of {what}, "
        f"counted{usable}"
    )


def _ways(args: Namespace, model: Network) -> Iterator[Way]:
    engines = [args.engine] if args.engine else ENGINES
    if not isinstance(model, SpikingNetwork):
        engines = [None]
    for engine in engines:
        for precision in [args.precision] if "precision" in args.given else PRECISIONS:
            yield Way(engine, precision)


def _peak(
    args: Namespace, way: Way, network: str, classes: int, shape: tuple[int, ...]
) -> Callable[[int], int]:
    """Return the function from images per pass to the bytes that a step takes at its peak."""
    with torch.device("meta"):
        model = create_model(network, NeuronSetting.from_args(args), classes, args.dropout)
    if way.engine is None:
        model.configure(precision=way.precision)
    else:
        model.configure(**way._asdict(), compile=args.compile, image_steps=LONG_RUN)
    parts = 1 if args.accumulate == 1 else 2  # the gradients of one part are kept in the next
    opt = optimizer.build(
        args.optimizer,
        model,
        lr=args.lr,
        momentum=args.momentum,
        weight_decay=args.weight_decay,
        nesterov=args.nesterov,
    )

    @functools.cache
    def peak(images: int) -> int:
        x = torch.empty(images * parts, *shape, device="meta")
        if args.evaluate:
            return count_evaluation(model, x[:images]).peak
        y = torch.empty(len(x), dtype=torch.long, device="meta")
        return count_training_step(model, x, y, opt, parts).peak

    return peak


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    run(main)
