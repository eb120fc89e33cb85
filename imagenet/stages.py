"""The three stages: train an ANN, calibrate thresholds, train the SNN; and evaluate any network."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from torch import Tensor

from imagenet import loaders, pretrained
from imagenet.build import (
    build_context,
    check_file_names,
    folder,
    read_batching,
    read_setting,
)
from imagenet.calibration import calibrate
from imagenet.launch import Layout
from models import SpikingNetwork, create_model
from models.recording.recorder import Recorder
from utils.analysis.flags import ReportFlags
from utils.analysis.report import finish_run
from utils.distributed.world import World
from utils.runs import checkpoint
from utils.runs.paths import RunFiles
from utils.runs.resume import locate
from utils.system.errors import UserError, flag_errors
from utils.system.text import listed
from utils.training.evaluate import evaluate, score
from utils.training.flags import read_flags
from utils.training.trainer import train


def run_stage(args: Namespace, layout: Layout, world: World) -> None:
    """Calibrate, evaluate or train, as the flags say; raises `UserError` for bad input.

    A network that starts from `--pre_train` is evaluated before it is trained.
    """
    if args.calculate_Vth:
        _count_skipped(world, calibrate_thresholds(args, layout, world))
        return
    context = build_context(args, layout, world)
    if args.evaluate:
        evaluate(context)
    else:
        if context.pretrained:
            score(context, "before training:", context.data.selection)
        train(context)
    spiking = isinstance(context.model, SpikingNetwork)
    recorder = Recorder(context.model) if spiking else None
    finish_run(context, recorder, read_flags(ReportFlags, args))
    _count_skipped(world, *(loader for loader in context.data.loaders if loader is not None))


def calibrate_thresholds(args: Namespace, layout: Layout, world: World) -> loaders.FolderLoader:
    """Write the thresholds of the ANN `--pre_train` to `--calculate_Vth`; return the loader used.

    They are computed in full precision.
    """
    check_file_names(args)
    setting = read_setting(args)
    if not args.pre_train:
        raise UserError("--calculate_Vth: name the trained ANN with --pre_train")
    if world.size > 1:
        raise UserError("--calculate_Vth: runs in one process; leave out the flags of several")
    batching = read_batching(args, layout, None, world)
    batches, num_classes = loaders.build_calibration(args, batching, world)
    ann = create_model(args.arch, setting, num_classes).to(world.device)
    pretrained.load_weights(ann, locate(args.pre_train, folder(args), "--pre_train"), world)
    with flag_errors("--calculate_Vth"):
        thresholds = calibrate(ann, batches, args.batch_size * args.calib_batches)
    path = folder(args) / f"{args.calculate_Vth}.dict"
    RunFiles(path.parent, args.calculate_Vth).make_folder()
    checkpoint.save(path, thresholds)
    _print_table(thresholds, path, args, world)
    return batches


def _print_table(thresholds: dict[str, Tensor], path: Path, args: Namespace, world: World) -> None:
    """Print the thresholds by layer, and a warning for thresholds at 0."""
    for name, threshold in thresholds.items():
        world.print_main(f"{name:24s} {threshold.item():12.6f}")
    world.print_main(
        f"{len(thresholds)} thresholds from {args.calib_batches} batches of {args.calib_split}/ "
        f"in {path}"
    )
    if silent := [name for name, threshold in thresholds.items() if threshold == 0]:
        world.print_main(
            f"warning: thresholds at 0: {listed(silent)}; these layers hardly respond, and "
            "would fire at --Vth_bound: train the ANN longer, or raise --calib_batches"
        )


def _count_skipped(world: World, *used: loaders.FolderLoader) -> None:
    """Print how many images of all ranks were skipped."""
    skipped = set().union(*world.all_gather(set().union(*(loader.skipped for loader in used))))
    if skipped:
        world.print_main(f"{len(skipped)} unreadable images were skipped")
