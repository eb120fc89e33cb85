"""The flags of the CIFAR scripts."""

from __future__ import annotations

import argparse

from models.engines.select import COMPILE, ENGINES, PRECISIONS
from utils.analysis.flags import add_report
from utils.distributed.world import TIMEOUT
from utils.runs.config_file import ConfigParser
from utils.system.flags import above, at_least, between, bounded, fraction
from utils.training.flags import (
    add_distributed,
    add_engine,
    add_files,
    add_import,
    add_neurons,
    add_training,
)


def build_parser(multi: bool) -> argparse.ArgumentParser:
    """Return the parser of the single-process script, or of the one for several (`multi`)."""
    parser = ConfigParser(
        description="Train a deep spiking network by differentiation on spike representation.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_data(parser.add_argument_group("data"))
    network, training, files = map(parser.add_argument_group, ("network", "training", "files"))
    _add_network(network)
    add_neurons(network)
    add_training(training)
    _add_batches(training)
    files.add_argument("--name", default="", help="suffix of this run's file names")
    add_files(files, "<checkpoint>/<dataset>/")
    add_report(parser.add_argument_group("report"))
    add_engine(parser.add_argument_group("computation"), ENGINES, PRECISIONS, COMPILE)
    parser.set_defaults(local_rank=-1, sync_bn=False, grad_compression="none", timeout=TIMEOUT)
    parser.set_defaults(Vth_grad_sum=False, print_freq=None)
    if multi:
        add_distributed(parser.add_argument_group("several processes"))
        parser.set_defaults(lr=0.05)
    return parser


def _add_data(group) -> None:
    group.add_argument(
        "-d",
        "--dataset",
        default="cifar10",
        help="cifar10, cifar100, digits (embedded), folder (train/, and test/ or val/); event "
        "recordings: CIFAR10DVS, DVS128Gesture, NMNIST, NCaltech101",
    )
    group.add_argument("--path", default="./data", help="where the data are or will be put")
    group.add_argument("-j", "--workers", type=between(0, 1024), default=4, help="loader processes")
    group.add_argument("--pin_memory", action="store_true", help="copy from page-locked memory")
    for name in ("mean", "std"):
        group.add_argument(
            f"--{name}",
            type=bounded(float) if name == "mean" else above(0),
            nargs=3,
            help=f"the channels' {name} to normalise with, instead of the data set's",
        )


def _add_network(group) -> None:
    group.add_argument("--model", default="preresnet.resnet18_if", help="a registered network")
    add_import(group)
    group.add_argument("--dropout", type=fraction, help="probability, instead of the network's")


def _add_batches(group) -> None:
    group.add_argument("--train-batch", type=at_least(1), default=128, help="of all processes")
    group.add_argument("--test-batch", type=at_least(1), default=50, help="of all processes")
    group.add_argument(
        "--manualSeed", type=between(0, 2**31), help="drawn from 1..10000 if not given"
    )
