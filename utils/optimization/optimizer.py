"""The optimizer of a run; its state is matched to parameters by name, not by position."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn, optim

from utils.system.errors import UserError

NAMES = ("SGD", "Adam", "AdamW")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_SLOTS = {"SGD": {"momentum_buffer"}} | dict.fromkeys(
    ("Adam", "AdamW"), {"step", "exp_avg", "exp_avg_sq"}
)
_DECOUPLED = "decoupled_weight_decay"  # in the parameter groups, true of AdamW alone


def build(
    name: str, model: nn.Module, *, lr: float, momentum: float, weight_decay: float, nesterov: bool
) -> optim.Optimizer:
    """Return the optimizer `name` of `NAMES` over all parameters of `model`, thresholds included.

    It is fused where torch has that, so that a step is skipped on the device where the attribute
    `found_inf` is 1. Raises `UserError` for Nesterov without momentum.
    """
    parameters = list(model.parameters())
    common = {
        "lr": lr,
        "weight_decay": weight_decay,
        "fused": all(p.device.type in ("cpu", "cuda") for p in parameters),
    }
    if name in ("Adam", "AdamW"):
        return getattr(optim, name)(parameters, betas=(0.9, 0.999), **common)
    if nesterov and momentum == 0:
        raise UserError("--nesterov needs --momentum above 0")
    optimizer = optim.SGD(parameters, momentum=momentum, nesterov=nesterov, **common)
    _start_momentum(optimizer)
    return optimizer


def _start_momentum(optimizer: optim.Optimizer) -> None:
    """Set the momentum of SGD to zero where there is none, from which a first step is the same.

    torch would create it in the first step, uninitialised where `found_inf` skips that.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group.get("momentum") else ():
            state = optimizer.state[parameter]
            if state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(parameter)


def set_learning_rate(optimizer: optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def parameter_names(optimizer: optim.Optimizer, model: nn.Module) -> list[str]:
    """Return the names of the parameters of `optimizer`, in the order of its state."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [names[p] for group in optimizer.param_groups for p in group["params"]]


def names_in_state_dict(keys: list[str]) -> list[str]:
    """Return the `keys` of a state dict that are parameters, in its order."""
    return [key for key in keys if not key.endswith(_STATISTICS)]


def restore(
    optimizer: optim.Optimizer, model: nn.Module, saved: dict[str, Any], names: list[str], file: str
) -> None:
    """Load the state `saved` of an optimizer over the parameters `names` into `optimizer`.

    The two may hold the parameters in different orders. Hyperparameters such as the weight decay
    stay as the flags set them. Raises `UserError`, naming `file`, when the state is of another
    optimizer or of other parameters.
    """
    slots = [slot for group in saved["param_groups"] for slot in group["params"]]
    if len(slots) != len(names):
        raise UserError(
            f"--resume {file}: its optimizer has {len(slots)} parameters, its model {len(names)}; "
            "resume from another checkpoint"
        )
    states = {name: saved["state"].get(slot) for slot, name in zip(slots, names, strict=True)}
    current = parameter_names(optimizer, model)
    is_adamw = any(group.get(_DECOUPLED) for group in saved["param_groups"])
    if is_adamw != isinstance(optimizer, optim.AdamW) and not isinstance(optimizer, optim.SGD):
        raise _of_another(optimizer, file)  # Adam and AdamW keep the same state
    _check(optimizer, model, states, file)
    own = optimizer.state_dict()
    own["state"] = {i: states[name] for i, name in enumerate(current) if states.get(name)}
    optimizer.load_state_dict(own)
    for parameter, state in optimizer.state.items():
        for key, value in state.items():  # fused kernels need the strides of the parameter
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    _start_momentum(optimizer)


def _of_another(optimizer: optim.Optimizer, file: str) -> UserError:
    return UserError(
        f"--optimizer {type(optimizer).__name__}: {file} was written by another optimizer"
    )


def _check(optimizer: optim.Optimizer, model: nn.Module, states: dict[str, Any], file: str) -> None:
    kind = type(optimizer).__name__
    for name, parameter in model.named_parameters():
        state = states.get(name) or {}
        if not set(state) <= _SLOTS[kind]:
            raise _of_another(optimizer, file)
        lacking = sorted(key for key in _SLOTS[kind] if state.get(key) is None)
        if state and lacking and kind != "SGD":  # SGD without momentum has none
            raise UserError(f"--resume {file}: the optimizer's {lacking[0]} of {name} is missing")
        for key, value in state.items():
            shape = torch.Size() if key == "step" else parameter.shape
            if fault := _fault(value, shape):
                raise UserError(f"--resume {file}: the optimizer's {key} of {name} is {fault}")


def _fault(value: Any, shape: torch.Size) -> str:
    """Return why `value` is not a tensor or number of this shape, empty if it is."""
    if value is None:  # of SGD without momentum
        return ""
    found = torch.as_tensor(value)
    if found.layout != torch.strided or found.is_complex():
        return "not a dense tensor of real numbers"
    if found.shape != shape:
        return f"of the shape {tuple(found.shape)} instead of {tuple(shape)}"
    return ""
