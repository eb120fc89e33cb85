"""The state of training: what a checkpoint holds so that another process can continue."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn, optim

from utils.distributed.world import World, running_statistics
from utils.optimization import optimizer
from utils.runs import checkpoint
from utils.runs.checkpoint_keys import CIFAR_KEYS, CheckpointContent, CheckpointKeys
from utils.system import random_state
from utils.system.errors import UserError, first_line
from utils.training.metrics import Meter

_FOREIGN = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass
class TrainState:
    """A model with its optimizer after `epoch` epochs of `iteration` steps and `step` more steps.

    `meter` holds the sums of this rank in the epoch that has begun. `acc` is the test accuracy of
    the last epoch and `best_acc` that of the best one, in percent; `keys` names them in a
    checkpoint. `rows` are those of the log, one per epoch; `skipped` counts the steps left out.
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
        if self.step:
            parts = world.all_gather(self._part(world))
            content |= {"step": self.step, "steps": steps, "parts": parts}
        return content

    def _part(self, world: World) -> dict[str, Any]:
        """Return what this rank alone knows within an epoch."""
        own = running_statistics(self.model) if world.size > 1 else {}
        statistics = {name: value.cpu() for name, value in own.items()}
        return {"totals": self.meter.totals.tolist(), "statistics": statistics}

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

    def _restore_part(self, parts: list[dict[str, Any]], world: World) -> None:
        """Restore this rank's sums; with another number of ranks, rank 0 restores those of all."""
        self.meter = Meter(world.device)
        totals = torch.tensor([part["totals"] for part in parts], dtype=torch.float64)
        if len(parts) == world.size:
            self.meter.totals += totals[world.rank].to(world.device)
            running = running_statistics(self.model)
            for name, value in parts[world.rank]["statistics"].items():
                running[name].copy_(value)
        elif world.is_main:
            self.meter.totals += totals.sum(0).to(world.device)


def _row(values: list[float]) -> list[float]:
    """Return a row of the log; raises ValueError or TypeError for other values."""
    learning_rate, train_loss, test_loss, train_acc, test_acc = map(float, values)
    return [learning_rate, train_loss, test_loss, train_acc, test_acc]
