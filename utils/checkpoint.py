"""Checkpoint files: written whole or not at all, read without running code from them."""

from __future__ import annotations

import difflib
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from utils.disk import write_atomically
from utils.errors import UserError

_PREFIX = "module."
_SHOWN = 4


def save(path: Path, content: dict[str, Any]) -> None:
    """Write `content` to `path`; a run killed meanwhile leaves the former file."""
    write_atomically(path, lambda file: torch.save(content, file))


def load(path: Path, flag: str = "--resume") -> dict[str, Any]:
    """Return what the checkpoint at `path` holds, on the CPU, its keys without `module.`.

    Raises `UserError`, naming `flag`, for a missing, truncated or foreign file.
    """
    content = read(path, flag)
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{flag} {path.name}: no checkpoint, it holds no state_dict of tensors")
    content["state_dict"] = without_prefix(content["state_dict"])
    return content


def read(path: Path, flag: str) -> Any:
    """Return the tensors in the file `path`, on the CPU.

    Raises `UserError`, naming `flag`, for a missing or truncated file and for one of another kind.
    """
    if not path.is_file():
        raise UserError(f"{flag} {path.name}: no such file in {path.parent}; {_present(path)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error says all there is to say
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # foreign bytes can make an unpickler stumble anywhere
        raise UserError(
            f"{flag} {path.name}: truncated, unreadable or no file of tensors; use an intact "
            "copy, for example the _best.pth beside a checkpoint"
        ) from error


def without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `state` with keys as the bare model has them, in the same order."""
    return {key.removeprefix(_PREFIX): value for key, value in state.items()}


def load_weights(
    model: nn.Module, state: dict[str, Tensor], where: str, may_lack: str | None = None
) -> list[str]:
    """Copy `state` into `model`; return the keys that it lacks, `model` keeping its own there.

    Only keys that end in `may_lack` may be missing. Raises `UserError`, starting with `where`,
    for any other difference, before anything is copied.
    """
    own = model.state_dict()
    shared = own.keys() & state.keys()
    lacking = [key for key in own if key not in shared]
    allowed = [key for key in lacking if may_lack and key.endswith(may_lack)]
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
        for key in own
        if key in shared and state[key].shape != own[key].shape
    ]
    faults = [
        _listed("missing", [key for key in lacking if key not in allowed]),
        _listed("unexpected", [key for key in state if key not in shared]),
        _listed("of another shape", shapes),
    ]
    if any(faults):
        raise UserError(
            f"{where} is of another model or class count: {'; '.join(filter(None, faults))}"
        )
    model.load_state_dict(own | state)
    return allowed


def _present(path: Path) -> str:
    kind = path.suffix or ".pth"
    names = [file.name for file in path.parent.glob(f"*{kind}")]
    near = difflib.get_close_matches(path.name, names, n=_SHOWN, cutoff=0.0)
    return f"the nearest there: {', '.join(near)}" if near else f"no {kind} file is there yet"


def _listed(what: str, keys: list[str]) -> str:
    return f"{what} {', '.join(keys)}" if keys else ""
