"""Build a run of the ImageNet program from its flags."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from torch import nn

from imagenet import loaders, pretrained
from imagenet.launch import Layout
from models import NeuronSetting, SpikingNetwork, create_model, list_models
from models.user_networks import build_on_meta, check_forward, import_networks
from utils.datasets.loader import Batching
from utils.distributed.world import World
from utils.optimization.schedule import Schedule
from utils.runs import resume
from utils.runs.checkpoint_keys import IMAGENET_KEYS
from utils.runs.paths import RunFiles, run_files
from utils.runs.resume import Resumed, locate, require_imports
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

SPIKING, CALIBRATION = "preresnet_snn.", "preresnet_cal_Vth."


def build_context(args: Namespace, layout: Layout, world: World) -> RunContext:
    """Read the folder, build the network and load what `--pre_train` and `--load_Vth` name.

    Raises `UserError` before anything is written.
    """
    check_file_names(args)
    args, files, resumed = _resume(args, world)
    setting = read_setting(args, resumed)
    batching = read_batching(args, layout, resumed, world)
    data = loaders.build_data(args, batching, world)
    random_state.seed(batching.seed)
    with flag_errors("--arch"):
        model = create_model(args.arch, setting, data.num_classes)
        context = RunContext(
            network=args.arch,
            setting=setting,
            training=read_flags(TrainingFlags, args),
            engine=read_flags(EngineFlags, args),
            distributed=read_flags(DistributedFlags, args),
            batching=batching,
            args=dict(vars(args)),
            files=files,
            data=data,
            model=model,
            schedule=Schedule(args.lr, args.epochs, args.warmup, first_epoch_only=True),
            world=world,
            resumed=resumed,
            pretrained=args.pre_train if not resumed else "",
            keys=IMAGENET_KEYS,
            batch_flags=("--batch-size", "--batch-size"),
        )
        context.configure_model()
    _load_pretrained(model, args, resumed, world)
    context.print_header()
    context.check_resumed()
    return context


def _resume(args: Namespace, world: World) -> tuple[Namespace, RunFiles, Resumed | None]:
    """Return the flags, the files of the run and the checkpoint that it is resumed from.

    An evaluation takes flags that the command line lacks from the checkpoint.
    """
    resumed = resume.read(args.resume, _files(args), world, args.evaluate)
    if args.evaluate and resumed:
        args, adopted = adopt_checkpoint(args, resumed.content, IMAGENET_KEYS)
        if adopted:
            world.print_main(f"note: from {resumed.name}: {adopted}")
    return args, _files(args), resumed


def _files(args: Namespace) -> RunFiles:
    return run_files(folder(args), args.name or args.arch, f"--name {args.name}")


def folder(args: Namespace) -> Path:
    """Return the folder of all files of the program."""
    return Path(args.checkpoint) / "imagenet"


def read_batching(
    args: Namespace, layout: Layout, resumed: Resumed | None, world: World
) -> Batching:
    """Return the batch of all nodes, this process's part of the workers, and the seed."""
    batch, seed = args.batch_size * layout.nodes, choose_seed(args.manualSeed, resumed, world)
    workers = -(-args.workers // layout.per_node)
    return Batching(batch, batch, workers, args.sync_bn, seed, args.val_split)


def read_setting(args: Namespace, resumed: Resumed | None = None) -> NeuronSetting:
    """Return the neuron setting of the flags, for an `--arch` that exists and suits its stage.

    Runs the code that `--import` names. Raises `UserError` for flags that contradict.
    """
    with flag_errors("--import"):
        imported = import_networks(args.imports or [])
    with flag_errors("--arch"):
        setting = NeuronSetting.from_args(args)
        if args.arch not in list_models():
            require_imports(args.arch, resumed)
        network = build_on_meta(args.arch, setting)
        if not (args.arch.startswith("preresnet_") or args.arch in imported):
            raise ValueError(f"{args.arch} is for the CIFAR scripts; take a {SPIKING}* one")
        if network.in_channels != 3:
            raise ValueError(f"{args.arch} takes {network.in_channels} channels, images have 3")
        if args.arch in imported:
            check_forward(network, (3, args.image_size, args.image_size), engine=args.engine)
    _check_stage(args, spiking=isinstance(network, SpikingNetwork))
    return setting


def check_file_names(args: Namespace) -> None:
    """Raise `UserError` where a flag that names files contains a folder."""
    for flag, value in (("name", args.name), ("calculate_Vth", args.calculate_Vth)):
        if Path(value).name != value:
            raise UserError(f"--{flag} {value}: a file name cannot contain a folder")
        run_files(folder(args), value, f"--{flag} {value}")


def _check_stage(args: Namespace, spiking: bool) -> None:
    """Raise `UserError` for flags that belong to another stage than `--arch` does."""
    for flag in ("load_Vth", "rate_stat", "report"):
        if getattr(args, flag) and not spiking:
            raise UserError(f"--{flag}: --arch {args.arch} has no neurons; take a {SPIKING}* one")
    if args.calculate_Vth and spiking:
        raise UserError(
            f"--calculate_Vth: --arch {args.arch} is not an ANN to take thresholds from; take a "
            f"{CALIBRATION}* one"
        )
    if args.arch.startswith(CALIBRATION) and not args.calculate_Vth:
        raise UserError(f"--arch {args.arch}: name the file to write with --calculate_Vth")


def _load_pretrained(
    model: nn.Module, args: Namespace, resumed: Resumed | None, world: World
) -> None:
    """Load `--pre_train` and `--load_Vth`, unless a checkpoint resumed replaces them."""
    if resumed:
        if args.pre_train or args.load_Vth:
            world.print_main(f"note: --resume {resumed.name} replaces --pre_train and --load_Vth")
        return
    if args.pre_train:
        pretrained.load_weights(model, locate(args.pre_train, folder(args), "--pre_train"), world)
    if args.load_Vth:
        pretrained.load_Vth(model, locate(args.load_Vth, folder(args), "--load_Vth"), world)
