"""Build a run of the CIFAR scripts from its flags."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from cifar import datasets
from models import NeuronSetting, UnknownModel, create_model, list_models
from models.registry import unknown
from models.user_networks import build_on_meta, check_forward, import_networks
from utils.datasets.loader import Batching
from utils.datasets.sharding import least_batch
from utils.distributed.world import World
from utils.optimization.schedule import Schedule
from utils.runs import resume
from utils.runs.checkpoint_keys import CIFAR_KEYS
from utils.runs.paths import RunFiles, run_files
from utils.runs.resume import Resumed, require_imports
from utils.system import random_state
from utils.system.errors import UserError, flag_errors
from utils.training.context import RunContext, choose_seed
from utils.training.flags import (
    DistributedFlags,
    EngineFlags,
    TrainingFlags,
    adopt_checkpoint,
    read_flags,
)


def build_context(args: Namespace, world: World) -> RunContext:
    """Read the data and build the network; raises `UserError` before anything is written.

    Flags that can be checked without the data come first, since data may be downloaded.
    """
    with flag_errors("--import"):
        imported = import_networks(args.imports or [])
    args, files, resumed = _resume(args, world)
    setting = _setting(args, imported, resumed, world)
    batching = Batching(
        args.train_batch,
        args.test_batch,
        args.workers,
        args.sync_bn,
        choose_seed(args.manualSeed, resumed, world),
        args.val_split,
    )
    data = datasets.build_data(args, batching, world)
    _check_batch(args, data.train.num_samples, f"--path {args.path}", world)
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


def _resume(args: Namespace, world: World) -> tuple[Namespace, RunFiles, Resumed | None]:
    """Return the flags, the files of the run and the checkpoint that it is resumed from.

    An evaluation takes flags that the command line lacks from the checkpoint.
    """
    files, root = _files(args), Path(args.checkpoint)
    anywhere = root if args.evaluate and "dataset" not in args.given else None
    resumed = resume.read(args.resume, files, world, args.evaluate, anywhere)
    if args.evaluate and resumed:
        args, adopted = adopt_checkpoint(args, resumed.content, CIFAR_KEYS)
        if adopted:
            world.print_main(f"note: from {resumed.name}: {adopted}")
    return args, _files(args), resumed


def _files(args: Namespace) -> RunFiles:
    if Path(args.name).name != args.name:
        raise UserError(f"--name {args.name}: a suffix of file names cannot contain a folder")
    folder, flag = Path(args.checkpoint) / args.dataset, f"--name {args.name}"
    return run_files(folder, f"{args.model}{args.name}", flag)


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
        network = build_on_meta(args.model, setting)
    shape = datasets.sample_shape(args.dataset, args.timesteps)
    if network.in_channels != shape[-3]:
        raise UserError(
            f"--model {args.model} takes {network.in_channels} channels, --dataset {args.dataset} "
            f"has {shape[-3]}: preresnet is for images, vgg for events"
        )
    if args.model in imported:
        with flag_errors(f"--model {args.model}"):
            check_forward(network, shape, engine=args.engine)
    _check_batch(args, args.train_batch, f"--train-batch {args.train_batch}", world)
    return setting


def _check_batch(args: Namespace, samples: int, flag: str, world: World) -> None:
    """Raise `UserError` for fewer `samples` in a batch than BatchNorm needs at one timestep."""
    least = least_batch(world.size, args.sync_bn)
    if args.timesteps == 1 and not args.evaluate and samples < least:
        raise UserError(
            f"{flag}: a batch of {samples} training samples; BatchNorm with --timesteps 1 needs "
            f"{least}: 2 per process, or with --sync_bn 2 in all"
        )
