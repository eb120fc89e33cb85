"""The three stages: train an ANN, calibrate thresholds, train the SNN; and testing any of them."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from torch import Tensor

from imagenet import loaders, pretrained
from imagenet.build import folder, prepare, read_setting
from imagenet.calibration import calibrate
from models import create_model
from utils.distributed.world import World
from utils.runs import checkpoint
from utils.runs.paths import RunFiles
from utils.system.errors import UserError, flag_errors
from utils.training.context import choose_seed
from utils.training.evaluate import evaluate, score
from utils.training.trainer import train


def main(args: Namespace, world: World) -> None:
    """Do the stage that the flags name; raises `UserError` for bad input."""
    used = [calibrate_thresholds(args, world)] if args.calculate_Vth else learn(args, world)
    skipped = set().union(*world.all_gather(set().union(*(loader.skipped for loader in used))))
    if skipped:
        world.print_main(f"{len(skipped)} unreadable images were skipped")


def learn(args: Namespace, world: World) -> tuple[loaders.FolderLoader, ...]:
    """Train, or with `--evaluate` test, a network; return the loaders used.

    A network that another stage handed over is tested before it is trained.
    """
    run = prepare(args, world)
    if args.evaluate:
        evaluate(run)
    else:
        if run.pretrained:
            score(run, "before training:")
        train(run)
    return run.data.train, run.data.test


def calibrate_thresholds(args: Namespace, world: World) -> loaders.FolderLoader:
    """Write the thresholds of the ANN `--pre_train` to `--calculate_Vth`; return the loader used.

    They are computed in full precision.
    """
    setting = read_setting(args)
    if not args.pre_train:
        raise UserError("--calculate_Vth: name the trained ANN with --pre_train")
    if world.size > 1:
        raise UserError("--calculate_Vth: one process does it; leave out those of several")
    args.manualSeed = choose_seed(args.manualSeed, None, world)
    batches, num_classes = loaders.build_calibration(args, world)
    ann = create_model(args.arch, setting, num_classes).to(world.device)
    pretrained.load_weights(ann, folder(args) / args.pre_train, world)
    with flag_errors("--calculate_Vth"):
        thresholds = calibrate(ann, batches, args.batch_size * args.calib_batches)
    path = folder(args) / f"{args.calculate_Vth}.dict"
    RunFiles(path.parent, args.calculate_Vth).make_folder()
    checkpoint.save(path, thresholds)
    _tabulate(thresholds, path, args, world)
    return batches


def _tabulate(thresholds: dict[str, Tensor], path: Path, args: Namespace, world: World) -> None:
    """Print the thresholds by layer; warn of layers that are silent."""
    for name, threshold in thresholds.items():
        world.print_main(f"{name:24s} {threshold.item():12.6f}")
    world.print_main(
        f"{len(thresholds)} thresholds from {args.calib_batches} batches of {args.calib_split}/ "
        f"in {path}"
    )
    if silent := [name for name, threshold in thresholds.items() if threshold == 0]:
        world.print_main(
            f"warning: thresholds at 0: {', '.join(silent)}; these layers hardly respond, and "
            "would fire at --Vth_bound: train the ANN on, or look at more images"
        )
