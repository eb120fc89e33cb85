"""The state of training: what a checkpoint holds so that another process can continue."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn, optim

from utils.distributed.world import World, running_statistics
from utils.optimization import optimizer
from utils.optimization.ema import Ema
from utils.runs import checkpoint
from utils.runs.checkpoint_keys import CIFAR_KEYS, CheckpointContent, CheckpointKeys
from utils.system import random_state
from utils.system.errors import UserError, first_line
from utils.training.metrics import Meter

_EMA = "ema."  # the prefix of its statistics
_FOREIGN = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass
class TrainState:
    """A model with its optimizer after `epoch` whole epochs and `step` steps of the next.

    `iteration` is the number of steps in the whole epochs. `meter` holds the sums of this rank in
    the epoch that has begun. `acc` is the test accuracy of the last epoch and `best_acc` that of
    the best one, in percent; `keys` names them in a checkpoint. `rows` are those of the log, one
    per epoch; `skipped` counts the steps left out; `ema` averages the weights, if that is asked
    for.
    """

    model: nn.Module
    optimizer: optim.Optimizer
    epoch: int = 0
    iteration: int = 0
    acc: float = 0.0
    best_acc: float = 0.0
    keys: CheckpointKeys = CIFAR_KEYS
    step: int = 0
    meter: Meter | None = None
    rows: list[list[float]] = field(default_factory=list)
    skipped: int = 0
    ema: Ema | None = None

    def advance(self, steps: int, acc: float) -> bool:
        """Count an epoch of `steps` steps that reached `acc`; return whether it is the best."""
        self.epoch += 1
        self.iteration += steps
        self.step, self.meter = 0, None
        is_best = acc > self.best_acc
        self.acc, self.best_acc = acc, max(acc, self.best_acc)
        return is_best

    def snapshot(self, world: World, steps: int = 0) -> CheckpointContent:
        """Return the content of a checkpoint, in an epoch of `steps` steps; a collective."""
        content = {
            "epoch": self.epoch,
            "state_dict": self.model.state_dict(),
            self.keys.acc: self.acc,
            self.keys.best_acc: self.best_acc,
            "optimizer": self.optimizer.state_dict(),
            "optimizer_names": optimizer.parameter_names(self.optimizer, self.model),
            "iteration": self.iteration,
            "random_states": world.all_gather(random_state.capture(world.device)),
            "rows": self.rows,
            "skipped": self.skipped,
        }
        if self.ema:
            content |= {
                "ema_state_dict": self.ema.model.state_dict(),
                "ema_acc": self.ema.acc,
                "ema_best_acc": self.ema.best_acc,
            }
        if self.step:
            parts = world.all_gather(self._part(world))
            content |= {"step": self.step, "steps": steps, "parts": parts}
        return content

    def _part(self, world: World) -> dict[str, Any]:
        """Return what this rank alone knows within an epoch."""
        own = self._running_statistics() if world.size > 1 else {}
        statistics = {name: value.cpu() for name, value in own.items()}
        return {"totals": self.meter.totals.tolist(), "statistics": statistics}

    def _running_statistics(self) -> dict[str, Tensor]:
        """Return the running statistics of the model, and those of the average as `ema.<name>`."""
        average = running_statistics(self.ema.model) if self.ema else {}
        prefixed = {f"{_EMA}{name}": value for name, value in average.items()}
        return running_statistics(self.model) | prefixed

    def resume(self, content: CheckpointContent, steps: int, world: World, file: str) -> None:
        """Continue from the `content` of the checkpoint `file`, written with any number of ranks.

        A published checkpoint has neither parameter names nor an iteration nor random states: the
        names follow from the order of its keys, the iteration from its epoch and `steps`, the steps
        per epoch. Raises `UserError` when a published key is missing, when it is a checkpoint of
        another model, and when it was written in an epoch of another number of steps.
        """
        if missing := [key for key in self.keys.required if key not in content]:
            raise UserError(f"--resume {file}: cannot train on without {', '.join(missing)} in it")
        if not {"state", "param_groups"} <= content["optimizer"].keys():
            raise UserError(f"--resume {file}: its optimizer is not an optimizer's state")
        if (step := content.get("step", 0)) and content.get("steps") != steps:
            raise UserError(
                f"--resume {file}: written after {step} of {content.get('steps')} steps of an "
                f"epoch, which has {steps} here; give the batch size it was trained with"
            )
        if step > steps:
            raise UserError(f"--resume {file}: damaged, it is at step {step} of {steps}")
        try:
            self._restore(content, steps, world, file)
        except _FOREIGN as error:
            raise UserError(f"--resume {file}: damaged or foreign ({first_line(error)})") from error

    def _restore(self, content: CheckpointContent, steps: int, world: World, file: str) -> None:
        checkpoint.load_weights(self.model, content["state_dict"], f"--resume {file}")
        names = content.get("optimizer_names") or optimizer.names_in_state_dict(
            list(content["state_dict"])
        )
        optimizer.restore(self.optimizer, self.model, content["optimizer"], names, file)
        self._restore_average(content, world, file)
        self.epoch = content["epoch"]
        self.iteration = content.get("iteration", self.epoch * steps)
        self.acc, self.best_acc = float(content[self.keys.acc]), float(content[self.keys.best_acc])
        self.rows = [_row(row) for row in content.get("rows", [])]
        self.skipped = content.get("skipped", 0)
        self.step = content.get("step", 0)
        if self.step:
            self._restore_part(content["parts"], world)
        states = content.get("random_states", [])
        if len(states) == world.size:
            random_state.restore(states[world.rank], world.device)

    def _restore_average(self, content: CheckpointContent, world: World, file: str) -> None:
        """Restore the averaged weights; without any in the checkpoint, begin with its weights."""
        average = content.get("ema_state_dict")
        if self.ema and average:
            checkpoint.load_weights(self.ema.model, average, f"--resume {file}: ema_state_dict")
            self.ema.acc = float(content["ema_acc"])
            self.ema.best_acc = float(content["ema_best_acc"])
        elif self.ema:
            self.ema.restart(self.model)
            world.print_main(f"note: --ema: {file} has no average, which begins with its weights")
        elif average:
            world.print_main(f"note: --ema is not given: the average in {file} is not continued")

    def _restore_part(self, parts: list[dict[str, Any]], world: World) -> None:
        """Restore this rank's sums; with another number of ranks, rank 0 restores those of all."""
        self.meter = Meter(world.device)
        totals = torch.tensor([part["totals"] for part in parts], dtype=torch.float64)
        if len(parts) == world.size:
            self.meter.totals += totals[world.rank].to(world.device)
            saved = parts[world.rank]["statistics"]
            own = self._running_statistics()
            for name, value in saved.items():
                if self.ema or not name.startswith(_EMA):
                    own[name].copy_(value)
        elif world.is_main:
            self.meter.totals += totals.sum(0).to(world.device)


def _row(values: list[float]) -> list[float]:
    """Return a row of the log; raises ValueError or TypeError for other values."""
    learning_rate, train_loss, test_loss, train_acc, test_acc = map(float, values)
    return [learning_rate, train_loss, test_loss, train_acc, test_acc]
