"""A training in progress: all that a checkpoint must hold for another process to go on with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn, optim

from utils import checkpoint, optimizer, random_state
from utils.distributed import World
from utils.errors import UserError


@dataclass
class Training:
    """A model with its optimizer after `epoch` epochs and `iteration` steps.

    `acc` is the test accuracy of the latest epoch and `best_acc` of the best one, in percent;
    a checkpoint holds them under `accuracy_keys`.
    """

    model: nn.Module
    optimizer: optim.Optimizer
    epoch: int = 0
    iteration: int = 0
    acc: float = 0.0
    best_acc: float = 0.0
    accuracy_keys: tuple[str, str] = ("acc", "best_acc")

    def advance(self, steps: int, acc: float) -> bool:
        """Count an epoch of `steps` steps that reached `acc`; return whether it is the best."""
        self.epoch += 1
        self.iteration += steps
        is_best = acc > self.best_acc
        self.acc, self.best_acc = acc, max(acc, self.best_acc)
        return is_best

    def snapshot(self, world: World) -> dict[str, Any]:
        """Return the content of a checkpoint; every process must call it."""
        return {
            "epoch": self.epoch,
            "state_dict": self.model.state_dict(),
            **dict(zip(self.accuracy_keys, (self.acc, self.best_acc), strict=True)),
            "optimizer": self.optimizer.state_dict(),
            "optimizer_names": optimizer.parameter_names(self.optimizer, self.model),
            "iteration": self.iteration,
            "random_states": world.gather(random_state.capture(world.device)),
        }

    def resume(self, content: dict[str, Any], steps: int, world: World, file: str) -> None:
        """Go on from the checkpoint `content` of `file`, of whatever `world` it was written in.

        A published checkpoint holds neither parameter names nor an iteration nor random states:
        the names follow from its key order, the iteration from its epoch and `steps` an epoch.
        Raises `UserError` when a published key is missing, or when it is of another model.
        """
        published = ("epoch", "state_dict", *self.accuracy_keys, "optimizer")
        if missing := [key for key in published if key not in content]:
            raise UserError(f"--resume {file}: cannot go on without {', '.join(missing)} in it")
        saved = content["optimizer"]
        if not isinstance(saved, dict) or not {"state", "param_groups"} <= saved.keys():
            raise UserError(f"--resume {file}: its optimizer is no optimizer's state")
        checkpoint.load_weights(self.model, content["state_dict"], f"--resume {file}")
        names = content.get("optimizer_names") or optimizer.names_in_state_dict(
            list(content["state_dict"])
        )
        optimizer.restore(self.optimizer, self.model, content["optimizer"], names, file)
        self.epoch = int(content["epoch"])
        self.iteration = int(content.get("iteration", self.epoch * steps))
        self.acc, self.best_acc = (float(content[key]) for key in self.accuracy_keys)
        states = content.get("random_states", [])
        if len(states) == world.size:
            random_state.restore(states[world.rank], world.device)
