"""Report on a trained network: firing rates, operations, energy, latency, calibration, errors.

python -m utils.report checkpoint/digits/NAME_best.pth [--stop_confidence 0.9]
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path

from cifar.build import build_context as build_cifar
from cifar.options import build_parser as cifar_parser
from imagenet.build import build_context as build_imagenet
from imagenet.launch import Layout
from imagenet.options import build_parser as imagenet_parser
from models import SpikingNetwork
from models.engines.select import COMPILE, ENGINES, PRECISIONS
from models.recording.recorder import Recorder
from utils.analysis import report
from utils.analysis.flags import ReportFlags, add_report_options
from utils.distributed.launch_env import join
from utils.distributed.world import TIMEOUT, World
from utils.runs import checkpoint
from utils.runs.checkpoint_keys import CheckpointContent
from utils.system.entry import run
from utils.system.errors import UserError
from utils.system.flags import FlagParser, above, at_least, command_line
from utils.training.context import RunContext
from utils.training.flags import add_import, read_flags

# Flags of this program, and the flags of the two scripts that they stand for.
_CIFAR = {"path": "path", "test_batch": "test_batch"}
_IMAGENET = {"path": "data", "test_batch": "batch_size"}
_BOTH = {name: name for name in ("workers", "engine", "precision", "compile")}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of this program."""
    parser = FlagParser(prog="python -m utils.report", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint of this project")
    parser.add_argument("--path", help="the data, if they are elsewhere than in training")
    parser.add_argument(
        "--out", metavar="STEM", help="write STEM_report.html and .json; beside the checkpoint"
    )
    add_report_options(parser)
    add_import(parser)
    trained = "that of the training if not given"
    parser.add_argument("--engine", choices=ENGINES, help=trained)
    parser.add_argument("--precision", choices=PRECISIONS, help=trained)
    parser.add_argument("--compile", choices=COMPILE, help=trained)
    parser.add_argument("--test-batch", type=at_least(1), help=trained)
    parser.add_argument("-j", "--workers", type=at_least(0), help=trained)
    parser.add_argument("--local_rank", "--local-rank", type=int, default=-1, help="by a launcher")
    parser.add_argument("--timeout", type=above(0), default=TIMEOUT, help="seconds for a process")
    parser.set_defaults(report=True)
    return parser


def main() -> None:
    """Report on the checkpoint that the command line names."""
    args = build_parser().parse_args()
    path, flags = Path(args.checkpoint), read_flags(ReportFlags, args)
    stem = path.with_suffix("") if args.out is None else Path(args.out)
    if not stem.parent.is_dir():
        raise UserError(f"--out {args.out}: no folder {stem.parent}; make it first")
    content = checkpoint.load(path, "CHECKPOINT")
    with join(args.local_rank, args.timeout) as world:
        context = build_context(args, content, path, world)
        if not isinstance(context.model, SpikingNetwork):
            raise UserError(f"CHECKPOINT {path.name}: {context.network} has no spiking neurons")
        checkpoint.load_weights(context.model, content["state_dict"], f"CHECKPOINT {path.name}")
        summary = report.measure(context, Recorder(context.model), flags.options)
        if world.is_main:
            facts = report.describe(context, path.name, content)
            report.write_report(context, stem, facts, summary, "choose another --out")


def build_context(
    args: Namespace, content: CheckpointContent, path: Path, world: World
) -> RunContext:
    """Return the run that wrote a checkpoint, evaluating it, with the flags of this program.

    Raises UserError for a checkpoint that does not hold the flags of its training.
    """
    imagenet = "arch" in content
    if not isinstance(content.get("args"), dict):
        raise UserError(
            f"CHECKPOINT {path.name}: it does not say how it was trained; evaluate it with the "
            "flags of its training, --evaluate and --report"
        )
    parser = imagenet_parser() if imagenet else cifar_parser(multi=True)
    names = _BOTH | (_IMAGENET if imagenet else _CIFAR)
    given = {names[name]: value for name, value in vars(args).items() if name in names}
    own = {"evaluate": True, "resume": str(path.resolve()), "report": False, "tensorboard": None}
    own["imports"] = args.imports  # code runs only when the command line names it
    values = content["args"] | {k: v for k, v in given.items() if v is not None} | own
    try:
        flags = parser.parse_args(command_line(parser, values))
    except UserError as error:
        raise UserError(f"CHECKPOINT {path.name}: flags of another version: {error}") from error
    if imagenet:
        return build_imagenet(flags, Layout(1, 0, world.size), world)
    return build_cifar(flags, world)


if __name__ == "__main__":
    run(main)
