"""One call of a training script: its flags, with the data and the network that they name."""

from __future__ import annotations

import random
import textwrap
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import nn, optim

from utils.datasets.loader import Batching, Data
from utils.distributed.world import World
from utils.optimization import optimizer
from utils.optimization.schedule import Schedule
from utils.runs.checkpoint_keys import CIFAR_KEYS, CheckpointKeys
from utils.runs.paths import RunFiles
from utils.runs.record import versions
from utils.runs.resume import Resumed
from utils.system.determinism import make_deterministic
from utils.system.errors import UserError
from utils.training.flags import DistributedFlags, EngineFlags, TrainingFlags

FORMAT = 1


class Setting(Protocol):
    """The dataclass of the neuron setting, as far as training reads it."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    timesteps: int
    rate_stat: bool


@dataclass(frozen=True)
class RunContext:
    """All that a run is made of, built once from the flags.

    `network` is the name as typed, `args` are all flags as recorded in checkpoints; `pretrained`
    is the file of another network's weights, if any; `batch_flags` are the flags of the training
    and the test batch.
    """

    network: str
    setting: Setting
    training: TrainingFlags
    engine: EngineFlags
    distributed: DistributedFlags
    batching: Batching
    args: dict[str, Any]
    files: RunFiles
    data: Data
    model: nn.Module
    schedule: Schedule
    world: World
    resumed: Resumed | None
    pretrained: str = ""
    keys: CheckpointKeys = CIFAR_KEYS
    batch_flags: tuple[str, str] = ("--train-batch", "--test-batch")

    @property
    def seed(self) -> int:
        """The seed of all that is random."""
        return self.batching.seed

    @property
    def resumed_name(self) -> str:
        """The file name of the checkpoint resumed, empty if there is none."""
        return self.resumed.name if self.resumed else ""

    @property
    def timesteps(self) -> int | None:
        """The length of spike trains, None for a network without neurons."""
        return self.setting.timesteps if hasattr(self.model, "firing_rates") else None

    def build_optimizer(self, model: nn.Module) -> optim.Optimizer:
        """Return the optimizer that the flags name, over the parameters of `model`."""
        flags = self.training
        return optimizer.build(
            flags.optimizer,
            model,
            lr=flags.lr,
            momentum=flags.momentum,
            weight_decay=flags.weight_decay,
            nesterov=flags.nesterov,
        )

    @property
    def batch_flag(self) -> tuple[str, int]:
        """The flag of the batch in use, and its value for all ranks together."""
        index = int(self.training.evaluate)
        return self.batch_flags[index], (self.batching.train_batch, self.batching.test_batch)[index]

    def facts(self) -> dict[str, Any]:
        """Return the entries of a checkpoint and of the run record that describe this run."""
        return {
            "format": FORMAT,
            self.keys.network: self.network,
            "dataset": self.data.name,
            "num_classes": self.data.num_classes,
            "setting": asdict(self.setting),
            "manualSeed": self.seed,
            "args": {flag: value for flag, value in self.args.items() if _is_plain(value)},
            "versions": versions(),
        }

    def configure_model(self) -> None:
        """Put the model on the device, choose its engine, and print notes on the choice.

        Raises `ValueError` naming the flag for a choice that the model does not offer.
        """
        if self.engine.deterministic:
            make_deterministic()
        self.model.to(self.world.device)
        notes = self.model.configure(
            engine=self.engine.engine,
            precision=self.engine.precision,
            compile=self.engine.compile,
            image_steps=self._image_steps(),
            sync_bn=self.engine.sync_bn,
        )
        for note in notes:
            self.world.print_main(f"note: {note}")

    def print_header(self) -> None:
        """Print the data, the model, the device and the seed, in lines of 80 columns."""
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        neurons = self.model.neuron_line()
        for text in (
            f"dataset: {self.data.description}",
            f"model: {self.network}, {parameters:,} parameters, {neurons}",
            f"device: {device_name(self.world)}, {self.model.engine_line()}",
            f"seed: {self.seed}",
        ):
            for line in textwrap.wrap(text, 79, subsequent_indent="  ", break_long_words=False):
                self.world.print_main(line)

    def check_resumed(self) -> None:
        """Print where the neuron setting differs from that of the checkpoint resumed.

        Raises `UserError` for a checkpoint of another network: the names are compared, since IF
        and LIF networks have the same parameters. Raises it for training on with other validation
        data, too.
        """
        if not self.resumed:
            return
        content, flag = self.resumed.content, f"--{self.keys.network}"
        written = content.get(self.keys.network, self.network)
        if written != self.network:
            raise UserError(
                f"--resume {self.resumed.name} is a checkpoint of {flag} {written}: pass that"
            )
        if not self.training.evaluate:
            self._check_split(self.resumed)
        now = asdict(self.setting)
        for name, value in content.get("setting", {}).items():
            if name in now and name != "rate_stat" and _is_plain(value) and now[name] != value:
                self.world.print_main(
                    f"note: --{name} was {value} in {self.resumed.name}, is {now[name]}"
                )

    def _check_split(self, resumed: Resumed) -> None:
        """Raise `UserError` where the validation data are not those of the checkpoint resumed."""
        content, split = resumed.content, self.batching.val_split
        written = content.get("args", {}).get("val_split", 0.0)
        seed = content.get("manualSeed", self.seed)
        if written != split:
            other = f"--val_split {written}"
        elif split and seed != self.seed:
            other = f"the seed {seed}, from which the validation data follow"
        else:
            return
        raise UserError(
            f"--val_split {split:g}: {resumed.name} was trained with {other}; pass that, so that "
            "training and validation data stay apart"
        )

    def _image_steps(self) -> int:
        """Return about how many images times timesteps this rank will present."""
        flags, data = self.training, self.data
        epochs = flags.epochs - flags.start_epoch
        trained = 0 if flags.evaluate else epochs * data.train.num_samples
        selection = epochs * data.selection.num_samples
        tested = data.test.num_samples if flags.evaluate else selection
        return self.setting.timesteps * (trained + tested) // self.world.size


def choose_seed(given: int | None, resumed: Resumed | None, world: World) -> int:
    """Return the seed `given`, else that of the run resumed, else a random one, on all ranks."""
    if given is None:
        drawn = random.randint(1, 10000)
        given = resumed.content.get("manualSeed", drawn) if resumed else drawn
    return world.broadcast(given)


def _is_plain(value: Any) -> bool:
    """Return whether a flag's value can be loaded without running code."""
    return isinstance(value, (str, int, float, list, type(None)))


def device_name(world: World) -> str:
    """Return the name of the device, and the number of processes if there are several."""
    cuda = world.device.type == "cuda"
    name = torch.cuda.getdevice_name() if cuda else f"CPU ({torch.get_num_threads()} threads)"
    return name if world.size == 1 else f"{world.size} processes, {name} each"
