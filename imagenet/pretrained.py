"""Load weights and thresholds of an earlier stage, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from models.thresholds import load_thresholds
from utils.distributed.world import World
from utils.runs import checkpoint
from utils.system.errors import UserError, first_line, flag_errors


def load_weights(model: nn.Module, path: Path, world: World) -> None:
    """Load the weights of the checkpoint `path`, in which only thresholds may be missing.

    Raises `UserError` with the keys for any other difference.
    """
    where = f"--pre_train {path.name}"
    content = checkpoint.load(path, "--pre_train")
    lacking = checkpoint.load_weights(model, content["state_dict"], where, may_lack="Vth")
    loaded = len(model.state_dict()) - len(lacking)
    thresholds = f"; it holds none of the {len(lacking)} thresholds" if lacking else ""
    world.print_main(f"weights: {loaded} tensors from {path.name}{_origin(content)}{thresholds}")


def load_Vth(model: nn.Module, path: Path, world: World) -> None:
    """Load the thresholds of the file `path`, written by this program or the published one.

    Raises `UserError` for thresholds of another network.
    """
    where = f"--load_Vth {path.name}"
    thresholds = checkpoint.read(path, "--load_Vth")
    if not isinstance(thresholds, dict):
        raise UserError(f"{where} has no thresholds by name; write some with --calculate_Vth")
    try:
        with flag_errors(where):
            load_thresholds(model, thresholds)
    except (
        ArithmeticError,
        RuntimeError,
        TypeError,
    ) as error:  # of such numbers
        raise UserError(f"{where}: not thresholds ({first_line(error)})") from error
    values = [neuron.Vth.item() for neuron in model.neurons().values()]
    world.print_main(
        f"thresholds: {len(values)} from {path.name}, {min(values):.4g} to {max(values):.4g}"
    )


def _origin(content: dict[str, Any]) -> str:
    if "arch" not in content or "epoch" not in content:
        return ""
    return f", {content['arch']} after {content['epoch']} epochs"
