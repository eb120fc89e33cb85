"""Build a run of the CIFAR scripts from its flags."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from cifar import datasets
from models import NeuronSetting, UnknownModel, create_model, list_models
from models.registry import unknown
from models.user_networks import build_on_meta, import_networks
from utils.datasets.loader import Batching
from utils.datasets.sharding import least_batch
from utils.distributed.world import World
from utils.runs import resume
from utils.runs.paths import RunFiles
from utils.runs.resume import Resumed, require_imports
from utils.system import random_state
from utils.system.errors import UserError, flag_errors
from utils.training.context import RunContext, choose_seed
from utils.training.flags import DistributedFlags, EngineFlags, TrainingFlags, read_flags
from utils.training.schedule import Schedule


def build_context(args: Namespace, world: World) -> RunContext:
    """Read the data and build the network; raises `UserError` before anything is written.

    Flags that can be checked without the data come first, since data may be downloaded.
    """
    files = _files(args)
    with flag_errors("--import"):
        imported = import_networks(args.imports or [])
    resumed = resume.read(args.resume, files, world, args.evaluate)
    setting = _setting(args, imported, resumed, world)
    batching = Batching(
        args.train_batch,
        args.test_batch,
        args.workers,
        args.sync_bn,
        choose_seed(args.manualSeed, resumed, world),
    )
    data = datasets.build_data(args, batching, world)
    random_state.seed(batching.seed)
    with flag_errors("--model"):
        model = create_model(args.model, setting, data.num_classes, args.dropout)
        context = RunContext(
            network=args.model,
            setting=setting,
            training=read_flags(TrainingFlags, args),
            engine=read_flags(EngineFlags, args),
            distributed=read_flags(DistributedFlags, args),
            batching=batching,
            args=dict(vars(args)),
            files=files,
            data=data,
            model=model,
            schedule=Schedule(args.lr, args.epochs, args.warmup),
            world=world,
            resumed=resumed,
        )
        context.configure_model()
    context.print_header()
    context.check_resumed()
    return context


def _files(args: Namespace) -> RunFiles:
    if Path(args.name).name != args.name:
        raise UserError(f"--name {args.name}: a suffix of file names cannot contain a folder")
    return RunFiles(Path(args.checkpoint) / args.dataset, f"{args.model}{args.name}")


def _setting(
    args: Namespace, imported: Sequence[str], resumed: Resumed | None, world: World
) -> NeuronSetting:
    """Return the neuron setting of the flags, for a model that exists and suits the data."""
    with flag_errors("--model"):
        setting = NeuronSetting.from_args(args)
        offered = [n for n in list_models() if n in imported or not n.startswith("preresnet_")]
        if args.model not in offered:
            require_imports(args.model, resumed)
            raise UnknownModel(unknown(args.model, offered))
        channels = build_on_meta(args.model, setting).in_channels
    expected = datasets.channels(args.dataset)
    if channels != expected:
        raise UserError(
            f"--model {args.model} takes {channels} channels, --dataset {args.dataset} has "
            f"{expected}: preresnet is for images, vgg for events"
        )
    if args.timesteps == 1 and args.train_batch < least_batch(world.size, args.sync_bn):
        raise UserError(
            f"--train-batch {args.train_batch}: with --timesteps 1 every process needs 2 images, "
            "unless they share BatchNorm (--sync_bn)"
        )
    return setting
