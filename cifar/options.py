"""The flags of the CIFAR scripts."""

from __future__ import annotations

import argparse

from utils.flags import FlagParser, above, at_least, fraction, one_of
from utils.optimizer import NAMES as OPTIMIZERS


def build_parser(multi: bool) -> argparse.ArgumentParser:
    """Return the parser of the single-process script, or of the one for several (`multi`)."""
    parser = FlagParser(
        description="Train a deep spiking network by differentiation on spike representation.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_data(parser.add_argument_group("data"))
    _add_neurons(parser.add_argument_group("network"))
    _add_training(parser.add_argument_group("training"), lr=0.05 if multi else 0.1)
    _add_files(parser.add_argument_group("files"))
    _add_engine(parser.add_argument_group("computation"))
    parser.set_defaults(local_rank=-1, Vth_grad_sum=False, print_freq=None)
    if multi:
        _add_processes(parser.add_argument_group("several processes"))
    return parser


def _add_data(group) -> None:
    group.add_argument(
        "-d",
        "--dataset",
        default="cifar10",
        help="cifar10, cifar100, CIFAR10DVS, digits (embedded), folder (train/, and test/ or val/)",
    )
    group.add_argument("--path", default="./data", help="where the data are or will be put")
    group.add_argument("-j", "--workers", type=at_least(0), default=4, help="loader processes")
    group.add_argument("--pin_memory", action="store_true", help="copy from page-locked memory")
    for name in ("mean", "std"):
        group.add_argument(
            f"--{name}",
            type=float if name == "mean" else above(0),
            nargs=3,
            help=f"the channels' {name} to normalise with, instead of the data set's",
        )


def _add_neurons(group) -> None:
    group.add_argument("--model", default="preresnet.resnet18_if", help="a registered network")
    group.add_argument("--timesteps", type=int, default=20, help="length of a spike train")
    group.add_argument("--Vth", type=float, default=0.3, help="initial threshold")
    group.add_argument("--tau", type=float, default=1.0, help="time constant (LIF)")
    group.add_argument("--delta_t", type=float, default=0.05, help="step, in the unit of tau (LIF)")
    group.add_argument("--alpha", type=float, default=0.3, help="share of Vth that fires")
    group.add_argument("--train_Vth", type=int, choices=(0, 1), default=1, help="train thresholds")
    group.add_argument("--Vth_bound", type=float, default=0.0005, help="floor of thresholds")
    group.add_argument("--rate_stat", type=int, choices=(0, 1), default=0, help="firing rates")
    group.add_argument("--dropout", type=fraction, help="probability, instead of the network's")


def _add_training(group, lr: float) -> None:
    group.add_argument("--epochs", type=at_least(1), default=200, help="length of the schedule")
    group.add_argument("--start-epoch", type=at_least(0), default=0, help="first epoch, from 0")
    group.add_argument("--train-batch", type=at_least(1), default=128, help="of all processes")
    group.add_argument("--test-batch", type=at_least(1), default=50, help="of all processes")
    group.add_argument("--lr", "--learning-rate", type=above(0), default=lr, help="initial rate")
    group.add_argument("--warmup", type=at_least(0), default=400, help="iterations of linear rise")
    group.add_argument("--optimizer", type=one_of(*OPTIMIZERS), default="SGD", help="SGD or Adam")
    group.add_argument("--momentum", type=fraction, default=0.9, help="of SGD")
    group.add_argument("--nesterov", action="store_true", help="Nesterov momentum")
    group.add_argument("--weight-decay", "--wd", type=at_least(0, float), default=5e-4, help="L2")
    group.add_argument("--manualSeed", type=at_least(0), help="drawn from 1..10000 if not given")


def _add_files(group) -> None:
    group.add_argument("--name", default="", help="suffix of this run's file names")
    group.add_argument("-c", "--checkpoint", default="./checkpoint", help="root of the output")
    group.add_argument("--resume", default="", help="a file in <checkpoint>/<dataset>/")
    group.add_argument("-e", "--evaluate", action="store_true", help="test once, do not train")


def _add_engine(group) -> None:
    group.add_argument(
        "--engine",
        choices=("folded", "unrolled", "rate"),
        help="how gradients are computed; the fastest exact one if not given; rate approximates",
    )
    group.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of products")
    group.add_argument("--compile", choices=("auto", "on", "off"), default="auto", help="kernels")


def _add_processes(group) -> None:
    group.add_argument("--local_rank", "--local-rank", type=int, help="given by the launcher")
    group.add_argument(
        "--Vth_grad_sum",
        action="store_true",
        help="sum threshold gradients over processes, as the published code does",
    )
