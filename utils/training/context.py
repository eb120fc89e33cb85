"""One call of a training script: the flags with the data and the network that they name."""

from __future__ import annotations

import random
from argparse import Namespace
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from utils.datasets.loader import Data
from utils.distributed.world import World
from utils.runs.paths import RunFiles
from utils.runs.record import versions
from utils.system.determinism import make_deterministic
from utils.system.errors import UserError
from utils.training.schedule import Schedule

FORMAT = 1


@dataclass(frozen=True)
class Vocabulary:
    """What a family of scripts calls its network, on the command line and in checkpoints.

    `network` is the flag and the key of the network's name; `accuracies` are the keys of the
    latest and the best test accuracy.
    """

    network: str = "model"
    accuracies: tuple[str, str] = ("acc", "best_acc")


@dataclass(frozen=True)
class Run:
    """What the flags amount to.

    `setting` is the dataclass of the neuron setting, `content` the checkpoint resumed, if one is;
    `pretrained` tells a network that starts from the weights of another one.
    """

    args: Namespace
    world: World
    setting: Any
    files: RunFiles
    data: Data
    model: nn.Module
    schedule: Schedule
    content: dict[str, Any] | None
    words: Vocabulary = Vocabulary()
    pretrained: bool = False

    @property
    def network(self) -> str:
        """The name of the network, as typed."""
        return getattr(self.args, self.words.network)

    def facts(self) -> dict[str, Any]:
        """Return what a checkpoint and the run record say about this run."""
        return {
            "format": FORMAT,
            self.words.network: self.network,
            "dataset": self.data.name,
            "num_classes": self.data.num_classes,
            "setting": asdict(self.setting),
            "manualSeed": self.args.manualSeed,
            "args": {flag: value for flag, value in vars(self.args).items() if _plain(value)},
            "versions": versions(),
        }

    def introduce(self) -> None:
        """Print what is about to be trained or tested, and how; check that `content` fits.

        Raises `UserError` where it is of another network.
        """
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        neurons = self.model.neuron_line()
        self.world.print_main(f"dataset: {self.data.description}")
        self.world.print_main(f"model: {self.network}, {parameters:,} parameters, {neurons}")
        self.world.print_main(f"device: {_device_name(self.world)}, {self.model.engine_line()}")
        self.world.print_main(f"seed: {self.args.manualSeed}")
        self._check_origin()

    def _check_origin(self) -> None:
        """Refuse a checkpoint of another network; tell where the neuron settings differ.

        IF and LIF networks have the same keys, so their names must be compared.
        """
        content, file = self.content or {}, self.args.resume
        written = content.get(self.words.network, self.network)
        if written != self.network:
            raise UserError(
                f"--resume {file} was written by --{self.words.network} {written}: pass that"
            )
        now = asdict(self.setting)
        for flag, value in content.get("setting", {}).items():
            if flag != "rate_stat" and now.get(flag) != value:
                self.world.print_main(f"note: --{flag} was {value} in {file}, is {now.get(flag)}")


def choose_seed(given: int | None, content: dict[str, Any] | None, world: World) -> int:
    """Return the seed asked for, else that of the run resumed, else a random one; all the same."""
    if given is None:
        given = (content or {}).get("manualSeed", random.randint(1, 10000))
    return world.broadcast(given)


def configure(model: nn.Module, args: Namespace, data: Data, world: World) -> None:
    """Put `model` on the device and choose its engine; print what is to be said of it.

    Raises `ValueError` naming the flag for a choice that `model` does not offer.
    """
    if args.deterministic:
        make_deterministic()
    model.to(world.device)
    notes = model.configure(
        engine=args.engine,
        precision=args.precision,
        compile=args.compile,
        image_steps=_image_steps(args, data, world),
        sync_bn=args.sync_bn,
    )
    for note in notes:
        world.print_main(f"note: {note}")


def _plain(value: Any) -> bool:
    """Return whether a flag's value can be read back without running code."""
    return isinstance(value, (str, int, float, list, type(None)))


def _image_steps(args: Namespace, data: Data, world: World) -> int:
    """Return about how many images times timesteps this process will present."""
    epochs = args.epochs - args.start_epoch
    trained = 0 if args.evaluate else epochs * data.train.num_samples
    tested = data.test.num_samples * (1 if args.evaluate else epochs)
    return args.timesteps * (trained + tested) // world.size


def _device_name(world: World) -> str:
    cuda = world.device.type == "cuda"
    name = torch.cuda.get_device_name() if cuda else f"CPU ({torch.get_num_threads()} threads)"
    return name if world.size == 1 else f"{world.size} processes, {name} each"
