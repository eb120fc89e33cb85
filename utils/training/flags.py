"""The flags that all training scripts share, with the CIFAR defaults, and their values by type."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

from utils.distributed.world import COMPRESSIONS, TIMEOUT
from utils.monitoring.tensorboard import tensorboard_folder
from utils.optimization.optimizer import NAMES as OPTIMIZERS
from utils.runs.checkpoint_keys import CheckpointContent, CheckpointKeys
from utils.system.flags import above, at_least, bounded, fraction, one_of

Flags = TypeVar("Flags")


@dataclass(frozen=True)
class TrainingFlags:
    """The values of the flags of the schedule, the optimizer and checkpoints."""

    epochs: int
    start_epoch: int
    lr: float
    warmup: int
    optimizer: str
    label_smoothing: float
    ema: float
    momentum: float
    nesterov: bool
    weight_decay: float
    accumulate: int
    save_every: int
    on_nan: str
    evaluate: bool
    log_evaluation: bool
    log_json: bool
    tensorboard: str | None
    print_freq: int | None


@dataclass(frozen=True)
class EngineFlags:
    """The values of the flags that say how the network is computed."""

    engine: str | None
    precision: str
    compile: str
    deterministic: bool
    sync_bn: bool


@dataclass(frozen=True)
class DistributedFlags:
    """The values of the flags on what several processes exchange."""

    grad_compression: str
    Vth_grad_sum: bool


def read_flags(kind: type[Flags], args: Namespace) -> Flags:
    """Return the dataclass `kind` filled with the flags in `args` of the same names."""
    return kind(**{field.name: getattr(args, field.name) for field in fields(kind)})


def adopt_checkpoint(
    args: Namespace, content: CheckpointContent, keys: CheckpointKeys
) -> tuple[Namespace, str]:
    """Return `args` with the flags that the command line lacks from `content`, and a line on them.

    These are the network, the data set, the neuron setting and the name of the run; values of
    other kinds are ignored.
    """
    values = {key: content[key] for key in (keys.network, "dataset") if key in content}
    if isinstance(name := content.get("args", {}).get("name"), str):
        values["name"] = name
    numbers = {k: v for k, v in content.get("setting", {}).items() if isinstance(v, (int, float))}
    values |= {key: int(v) if isinstance(v, bool) else v for key, v in numbers.items()}
    adopted = {
        flag: values[flag]
        for flag, value in vars(args).items()
        if flag in values and flag != "rate_stat" and flag not in args.given
        if values[flag] != value
    }
    line = " ".join(f"--{flag} {value}" for flag, value in adopted.items())
    return Namespace(**vars(args) | adopted), line


def add_neurons(group) -> None:
    """Add the neuron setting."""
    steps, number = bounded(int, 100_000), bounded(float)
    group.add_argument("--timesteps", type=steps, default=20, help="length of a spike train")
    group.add_argument("--Vth", type=number, default=0.3, help="initial threshold")
    group.add_argument("--tau", type=number, default=1.0, help="time constant (LIF)")
    group.add_argument("--delta_t", type=number, default=0.05, help="step in units of tau (LIF)")
    group.add_argument("--alpha", type=number, default=0.3, help="share of Vth that fires")
    group.add_argument("--train_Vth", type=int, choices=(0, 1), default=1, help="train thresholds")
    group.add_argument("--Vth_bound", type=number, default=0.0005, help="floor of thresholds")
    group.add_argument("--rate_stat", type=int, choices=(0, 1), default=0, help="firing rates")


def add_import(group) -> None:
    """Add the code of the user's own networks."""
    group.add_argument(
        "--import",
        dest="imports",
        nargs="+",
        action="extend",
        metavar="FILE",
        help="Python files or modules to run, which register networks of your own",
    )


def add_training(group) -> None:
    """Add the schedule and the optimizer."""
    group.add_argument("--epochs", type=at_least(1), default=200, help="length of the schedule")
    group.add_argument("--start-epoch", type=at_least(0), default=0, help="first epoch, from 0")
    group.add_argument("--lr", "--learning-rate", type=above(0), default=0.1, help="initial rate")
    group.add_argument("--warmup", type=at_least(0), default=400, help="iterations of linear rise")
    group.add_argument(
        "--optimizer", type=one_of(*OPTIMIZERS), default="SGD", help="or Adam, AdamW"
    )
    group.add_argument("--momentum", type=fraction, default=0.9, help="of SGD")
    group.add_argument("--nesterov", action="store_true", help="Nesterov momentum")
    group.add_argument("--weight-decay", "--wd", type=at_least(0, float), default=5e-4, help="L2")
    group.add_argument(
        "--label_smoothing", type=fraction, default=0.0, metavar="F", help="of the training loss"
    )
    group.add_argument(
        "--ema",
        type=fraction,
        default=0.0,
        metavar="DECAY",
        help="also average the weights over steps with this decay, and test the average",
    )
    group.add_argument(
        "--val_split",
        type=fraction,
        default=0.0,
        metavar="F",
        help="share of the training data held out to choose the best checkpoint by",
    )
    group.add_argument(
        "--accumulate",
        type=at_least(1),
        default=1,
        metavar="K",
        help="present a batch in K parts, for one that does not fit in memory",
    )


def add_files(group, folder: str) -> None:
    """Add what a run reads and writes; `folder` is how help names the output's folder."""
    group.add_argument("-c", "--checkpoint", default="./checkpoint", help="root of the output")
    group.add_argument("--resume", default="", help=f"a file in {folder}, a path, or auto")
    group.add_argument(
        "--save_every",
        type=at_least(0),
        default=0,
        help="steps between checkpoints within an epoch; 0 saves after epochs alone",
    )
    group.add_argument("-e", "--evaluate", action="store_true", help="test once, do not train")
    group.add_argument(
        "--log_evaluation",
        action="store_true",
        help="with -e, also append the published row 0 0 loss 0 accuracy to the log",
    )
    group.add_argument(
        "--log_json", action="store_true", help="also write the log's epochs as JSON lines"
    )
    group.add_argument(
        "--tensorboard",
        type=tensorboard_folder,
        metavar="DIR",
        help="write curves for TensorBoard to <DIR>/<dataset>/<run>/",
    )


def add_engine(
    group, engines: Sequence[str], precisions: Sequence[str], compilation: Sequence[str]
) -> None:
    """Add how the network is computed; the first precision and compilation are the defaults."""
    group.add_argument(
        "--engine",
        choices=engines,
        help="how gradients are computed; the fastest exact one if not given; rate approximates",
    )
    group.add_argument("--precision", choices=precisions, default=precisions[0], help="of products")
    group.add_argument("--compile", choices=compilation, default=compilation[0], help="kernels")
    group.add_argument(
        "--on_nan",
        choices=("stop", "skip"),
        default="stop",
        help="what to do at a step whose gradients are not finite",
    )
    group.add_argument(
        "--deterministic", action="store_true", help="repeatable kernels on a GPU, where there are"
    )


def add_distributed(group) -> None:
    """Add what several processes exchange, and how long they wait for each other."""
    group.add_argument(
        "--local_rank",
        "--local-rank",
        type=bounded(int),
        default=-1,
        help="given by the launcher",
    )
    group.add_argument(
        "--sync_bn",
        action="store_true",
        help="take BatchNorm statistics over all processes, as one process would",
    )
    group.add_argument(
        "--grad_compression",
        choices=COMPRESSIONS,
        default="none",
        help="all-reduce gradients in bf16: half the bytes, three digits",
    )
    group.add_argument(
        "--timeout",
        type=above(0, maximum=1e9),
        default=TIMEOUT,
        help="seconds to wait for a process that does not start or answer",
    )
    group.add_argument(
        "--Vth_grad_sum",
        action="store_true",
        help="sum threshold gradients over processes, as the published code does",
    )
