"""What the flags of the ImageNet program amount to."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from torch import nn

from imagenet import loaders, pretrained
from models import NeuronSetting, create_model, list_models
from utils.datasets.loader import Data
from utils.distributed.world import World
from utils.runs import resume
from utils.runs.paths import RunFiles
from utils.system import random_state
from utils.system.errors import UserError, flag_errors
from utils.training.context import Run, Vocabulary, choose_seed, configure
from utils.training.schedule import Schedule

WORDS = Vocabulary(network="arch", accuracies=("acc1", "best_acc1"))
SPIKING, CALIBRATION = "preresnet_snn.", "preresnet_cal_Vth."


def prepare(args: Namespace, world: World) -> Run:
    """Read the folder, build the network and hand over what the flags name.

    Raises `UserError` before anything is written.
    """
    files, setting = RunFiles(folder(args), args.name or args.arch), read_setting(args)
    content = resume.read(args, files, world)
    args.manualSeed = choose_seed(args.manualSeed, content, world)
    data = loaders.build_data(args, world)
    random_state.seed(args.manualSeed)
    model = _model(args, setting, data, world)
    pretrained = _hand_over(model, args, world)
    schedule = Schedule(args.lr, args.epochs, args.warmup, first_epoch_only=True)
    run = Run(args, world, setting, files, data, model, schedule, content, WORDS, pretrained)
    run.introduce()
    return run


def folder(args: Namespace) -> Path:
    """Return where all files of the program lie."""
    return Path(args.checkpoint) / "imagenet"


def read_setting(args: Namespace) -> NeuronSetting:
    """Return the neuron setting of the flags; raises `UserError` where these contradict."""
    with flag_errors("--arch"):
        setting = NeuronSetting.from_args(args)
        if args.arch not in list_models("preresnet_"):
            create_model(args.arch, setting)  # raises, with the names there are
            raise ValueError(f"{args.arch} is for the CIFAR scripts; take a {SPIKING}* one")
    for flag in ("name", "calculate_Vth"):
        value = getattr(args, flag)
        if Path(value).name != value:
            raise UserError(f"--{flag} {value}: a file name, without a folder")
    _check_stage(args)
    return setting


def _check_stage(args: Namespace) -> None:
    """Raise `UserError` for flags that belong to another stage than `--arch` does."""
    spiking = args.arch.startswith(SPIKING)
    for flag in ("load_Vth", "rate_stat"):
        if getattr(args, flag) and not spiking:
            raise UserError(f"--{flag}: --arch {args.arch} has no neurons; take a {SPIKING}* one")
    if args.calculate_Vth and spiking:
        raise UserError(
            f"--calculate_Vth: --arch {args.arch} is no ANN to take thresholds from; take a "
            f"{CALIBRATION}* one"
        )
    if args.arch.startswith(CALIBRATION) and not args.calculate_Vth:
        raise UserError(f"--arch {args.arch}: name the file to write with --calculate_Vth")


def _model(args: Namespace, setting: NeuronSetting, data: Data, world: World) -> nn.Module:
    with flag_errors("--arch"):
        model = create_model(args.arch, setting, data.num_classes)
        configure(model, args, data, world)
    return model


def _hand_over(model: nn.Module, args: Namespace, world: World) -> bool:
    """Load `--pre_train` and `--load_Vth`, unless resuming replaces them; return whether so."""
    if args.resume:
        if args.pre_train or args.load_Vth:
            world.print_main(f"note: --resume {args.resume} replaces --pre_train and --load_Vth")
        return False
    if args.pre_train:
        pretrained.load_weights(model, folder(args) / args.pre_train, world)
    if args.load_Vth:
        pretrained.load_Vth(model, folder(args) / args.load_Vth, world)
    return bool(args.pre_train)
