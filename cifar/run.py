"""One call of a CIFAR script: the flags with the data and the network that they name."""

from __future__ import annotations

import random
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cifar import loaders
from models import NeuronSetting, UnknownModel, create_model, list_models
from utils import checkpoint, random_state
from utils.distributed import World
from utils.errors import UserError
from utils.run_files import RunFiles

FORMAT = 1


@dataclass(frozen=True)
class Run:
    """What the flags amount to; `content` is the checkpoint resumed, if one is."""

    args: Namespace
    world: World
    setting: NeuronSetting
    files: RunFiles
    data: loaders.Data
    model: nn.Module
    content: dict[str, Any] | None

    def facts(self) -> dict[str, Any]:
        """Return what a checkpoint and the run record say about this run."""
        return {
            "format": FORMAT,
            "model": self.args.model,
            "dataset": self.data.name,
            "num_classes": self.data.num_classes,
            "setting": asdict(self.setting),
            "manualSeed": self.args.manualSeed,
        }


def prepare(args: Namespace, world: World) -> Run:
    """Read the data and build the network; raises `UserError` before anything is written.

    What needs no data is checked first, since data may be downloaded.
    """
    files = _files(args)
    setting = _setting(args)
    content = checkpoint.load(files.folder / args.resume) if args.resume else None
    args.manualSeed = world.share(_seed(args.manualSeed, content))
    data = loaders.build_data(args, world)
    random_state.seed(args.manualSeed)
    run = Run(args, world, setting, files, data, _model(args, setting, data, world), content)
    _introduce(run)
    _check_origin(run)
    return run


def _files(args: Namespace) -> RunFiles:
    if Path(args.name).name != args.name:
        raise UserError(f"--name {args.name}: a suffix of file names, it cannot hold a folder")
    return RunFiles(Path(args.checkpoint) / args.dataset, f"{args.model}{args.name}")


def _setting(args: Namespace) -> NeuronSetting:
    """Return the neuron setting of the flags, for a model that exists."""
    with _flag_errors():
        setting = NeuronSetting.from_args(args)
        if args.model not in list_models():
            create_model(args.model, setting)  # raises, with the names there are
        return setting


def _seed(given: int | None, content: dict[str, Any] | None) -> int:
    """Return the seed asked for, else that of the run resumed, else a random one."""
    if given is not None:
        return given
    return (content or {}).get("manualSeed", random.randint(1, 10000))


def _model(args: Namespace, setting: NeuronSetting, data: loaders.Data, world: World) -> nn.Module:
    """Return the network for `data` on the device of `world`, its engine chosen."""
    with _flag_errors():
        model = create_model(args.model, setting, data.num_classes, args.dropout)
        if model.in_channels != data.in_channels:
            raise UserError(
                f"--model {args.model} takes {model.in_channels} channels, --dataset "
                f"{args.dataset} has {data.in_channels}: preresnet is for images, vgg for events"
            )
        model.to(world.device)
        notes = model.configure(
            engine=args.engine,
            precision=args.precision,
            compile=args.compile,
            image_steps=_image_steps(args, data, world),
        )
    for note in notes:
        world.say(f"note: {note}")
    return model


def _image_steps(args: Namespace, data: loaders.Data, world: World) -> int:
    """Return about how many images times timesteps this process will present."""
    epochs = args.epochs - args.start_epoch
    trained = 0 if args.evaluate else epochs * data.train.num_samples
    tested = data.test.num_samples * (1 if args.evaluate else epochs)
    return args.timesteps * (trained + tested) // world.size


@contextmanager
def _flag_errors() -> Iterator[None]:
    """Turn what `models` raises for a flag's value into a `UserError`."""
    try:
        yield
    except UnknownModel as error:
        raise UserError(f"--model: {error}") from error
    except ValueError as error:
        raise UserError(str(error)) from error


def _introduce(run: Run) -> None:
    """Print what is about to be trained or tested, and how."""
    s = run.setting
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    trained = f"trained, at least {s.Vth_bound:g}" if s.train_Vth else "fixed"
    run.world.say(f"dataset: {run.data.description}")
    run.world.say(
        f"model: {run.args.model}, {parameters:,} parameters, timesteps {s.timesteps}, "
        f"Vth {s.Vth:g} ({trained}), alpha {s.alpha:g}, tau {s.tau:g}, delta_t {s.delta_t:g}"
    )
    run.world.say(f"device: {_device_name(run.world)}, {run.model.engine_line()}")
    run.world.say(f"seed: {run.args.manualSeed}")


def _device_name(world: World) -> str:
    cuda = world.device.type == "cuda"
    name = torch.cuda.get_device_name() if cuda else f"CPU ({torch.get_num_threads()} threads)"
    return name if world.size == 1 else f"{world.size} processes, {name} each"


def _check_origin(run: Run) -> None:
    """Refuse a checkpoint of another network; tell where the neuron settings differ.

    IF and LIF networks have the same keys, so their names must be compared.
    """
    content = run.content or {}
    written = content.get("model", run.args.model)
    if written != run.args.model:
        raise UserError(f"--resume {run.args.resume} was written by --model {written}: pass that")
    now = asdict(run.setting)
    for flag, value in content.get("setting", {}).items():
        if flag != "rate_stat" and now.get(flag) != value:
            run.world.say(f"note: --{flag} was {value} in {run.args.resume}, is {now.get(flag)}")
