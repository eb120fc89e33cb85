"""The flags of the ImageNet program."""

from __future__ import annotations

import argparse

from models.engines.select import COMPILE, ENGINES, PRECISIONS
from utils.analysis.flags import add_report
from utils.distributed.launch_env import LARGEST_SIZE
from utils.runs.config_file import ConfigParser
from utils.system.flags import at_least, between, bounded, fraction
from utils.training.flags import (
    add_distributed,
    add_engine,
    add_files,
    add_import,
    add_neurons,
    add_training,
)

FOLDER = "<checkpoint>/imagenet/"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all three stages."""
    parser = ConfigParser(
        description="Train an ANN, take thresholds from it, train the spiking network.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_data(parser.add_argument_group("data"))
    network, training, files = map(parser.add_argument_group, ("network", "training", "files"))
    network.add_argument("-a", "--arch", default="preresnet_snn.resnet18_if", help="a network")
    add_import(network)
    add_neurons(network)
    add_training(training)
    training.add_argument(
        "-b", "--batch-size", type=at_least(1), default=144, help="of all processes of a node"
    )
    training.add_argument(
        "--seed", type=between(0, 2**31), dest="manualSeed", help="drawn from 1..10000 if not given"
    )
    _add_files(files)
    add_report(parser.add_argument_group("report"))
    _add_calibration(parser.add_argument_group("thresholds"))
    add_engine(parser.add_argument_group("computation"), ENGINES, PRECISIONS, COMPILE)
    _add_processes(parser.add_argument_group("several processes"))
    parser.set_defaults(timesteps=50, Vth=6.0, alpha=0.5, Vth_bound=0.01)
    parser.set_defaults(epochs=90, lr=0.001, warmup=5000, weight_decay=0.0, optimizer="Adam")
    return parser


def _add_data(group) -> None:
    group.add_argument("--data", default="./data/imagenet", help="folder of train/ and val/")
    group.add_argument("-j", "--workers", type=between(0, 1024), default=4, help="loaders per node")
    group.add_argument(
        "--skip_bad_images", action="store_true", help="go on without unreadable images"
    )
    group.add_argument("--image-size", type=between(32, 4096), default=224, help="pixels of a side")
    group.add_argument(
        "--min_crop", type=fraction, default=0.08, help="least share of an image in training"
    )
    group.add_argument("--no_flip", action="store_true", help="mirror no training image")


def _add_files(group) -> None:
    group.add_argument("--name", default="", help="of this run's files; the arch if not given")
    add_files(group, FOLDER)
    group.add_argument("--pre_train", default="", help=f"weights to start from, in {FOLDER}")
    group.add_argument(
        "-p", "--print-freq", type=at_least(1), default=1000, help="batches between two lines"
    )


def _add_calibration(group) -> None:
    group.add_argument("--load_Vth", default="", help=f"thresholds to start from, in {FOLDER}")
    group.add_argument(
        "--calculate_Vth", default="", help=f"take thresholds from an ANN into this .dict, {FOLDER}"
    )
    group.add_argument("--calib_batches", type=at_least(1), default=5, help="batches looked at")
    group.add_argument(
        "--calib_split",
        choices=("val", "train"),
        default="val",
        help="the first images of val, which are of few classes, or random ones of train",
    )


def _add_processes(group) -> None:
    node = bounded(int, LARGEST_SIZE)
    group.add_argument("--world-size", type=node, default=-1, help="number of nodes")
    group.add_argument("--rank", type=node, default=-1, help="of this node, from 0")
    group.add_argument("--dist-url", default="tcp://224.66.41.62:23456", help="of node 0")
    group.add_argument("--dist-backend", default="nccl", help="gloo where there is no GPU")
    group.add_argument("--gpu", type=at_least(0), help="use this GPU alone")
    group.add_argument(
        "--multiprocessing-distributed", action="store_true", help="a process for each GPU"
    )
    group.add_argument(
        "--nproc", type=between(1, 1024), help="processes of a node: all GPUs, or 1 without a GPU"
    )
    add_distributed(group)
