"""What the flags of a CIFAR script amount to."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import torch
from torch import nn

from cifar import datasets
from models import NeuronSetting, UnknownModel, create_model, list_models
from models.registry import unknown
from utils.distributed.world import World
from utils.runs import resume
from utils.runs.paths import RunFiles
from utils.system import random_state
from utils.system.errors import UserError, flag_errors
from utils.training.context import Run, choose_seed, configure
from utils.training.schedule import Schedule


def prepare(args: Namespace, world: World) -> Run:
    """Read the data and build the network; raises `UserError` before anything is written.

    What needs no data is checked first, since data may be downloaded.
    """
    files = _files(args)
    setting = _setting(args, world)
    content = resume.read(args, files, world)
    args.manualSeed = choose_seed(args.manualSeed, content, world)
    data = datasets.build_data(args, world)
    random_state.seed(args.manualSeed)
    model = _model(args, setting, data, world)
    schedule = Schedule(args.lr, args.epochs, args.warmup)
    run = Run(args, world, setting, files, data, model, schedule, content)
    run.introduce()
    return run


def _files(args: Namespace) -> RunFiles:
    if Path(args.name).name != args.name:
        raise UserError(f"--name {args.name}: a suffix of file names, it cannot hold a folder")
    return RunFiles(Path(args.checkpoint) / args.dataset, f"{args.model}{args.name}")


def _setting(args: Namespace, world: World) -> NeuronSetting:
    """Return the neuron setting of the flags, for a model that exists and suits the data."""
    with flag_errors("--model"):
        setting = NeuronSetting.from_args(args)
        offered = [name for name in list_models() if not name.startswith("preresnet_")]
        if args.model not in offered:
            raise UnknownModel(unknown(args.model, offered))
        with torch.device("meta"):
            channels = create_model(args.model, setting).in_channels
    expected = datasets.channels(args.dataset)
    if channels != expected:
        raise UserError(
            f"--model {args.model} takes {channels} channels, --dataset {args.dataset} has "
            f"{expected}: preresnet is for images, vgg for events"
        )
    least = 2 if args.sync_bn else 2 * world.size
    if args.timesteps == 1 and args.train_batch < least:
        raise UserError(
            f"--train-batch {args.train_batch}: with --timesteps 1 every process needs 2 images, "
            "unless they share BatchNorm (--sync_bn)"
        )
    return setting


def _model(args: Namespace, setting: NeuronSetting, data: datasets.Data, world: World) -> nn.Module:
    """Return the network for `data` on the device of `world`, its engine chosen."""
    with flag_errors("--model"):
        model = create_model(args.model, setting, data.num_classes, args.dropout)
        configure(model, args, data, world)
    return model
