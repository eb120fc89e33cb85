"""Checkpoint files: written whole or not at all, read without running code from them."""

from __future__ import annotations

import difflib
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from utils.system.atomic_write import write_atomically
from utils.system.errors import UserError, first_line

_PREFIX = "module."
_SHOWN = 4
_NUMBER = (int, float, Tensor)
_KINDS = {  # of what a checkpoint may hold besides its state_dict
    "epoch": int,
    "step": int,
    "steps": int,
    "iteration": int,
    "skipped": int,
    "manualSeed": int,
    "acc": _NUMBER,
    "best_acc": _NUMBER,
    "acc1": _NUMBER,
    "best_acc1": _NUMBER,
    "model": str,
    "arch": str,
    "setting": dict,
    "optimizer": dict,
    "optimizer_names": list,
    "random_states": list,
    "parts": list,
    "rows": list,
}


def save(path: Path, content: dict[str, Any]) -> None:
    """Write `content` to `path`; a run killed meanwhile leaves the former file."""
    write_atomically(path, lambda file: torch.save(content, file))


def load(path: Path, flag: str = "--resume") -> dict[str, Any]:
    """Return what the checkpoint at `path` holds, on the CPU, its keys without `module.`.

    Raises `UserError`, naming `flag`, for a missing, truncated or foreign file.
    """
    content = read(path, flag)
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not _is_state(state):
        raise UserError(f"{flag} {path.name}: no checkpoint, it holds no state_dict of tensors")
    for key, kind in _KINDS.items():
        if key in content and not _is_a(kind, content[key]):
            raise UserError(f"{flag} {path.name}: damaged or foreign, its {key} is of another kind")
    content["state_dict"] = without_prefix(content["state_dict"])
    return content


def read(path: Path, flag: str) -> Any:
    """Return the tensors in the file `path`, on the CPU.

    Raises `UserError`, naming `flag`, for a missing or truncated file and for one of another kind.
    """
    if not path.is_file():
        raise UserError(f"{flag} {path.name}: no such file in {path.parent}; {_present(path)}")
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error says all there is to say
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # foreign bytes can make an unpickler stumble anywhere
        raise UserError(
            f"{flag} {path.name}: truncated, unreadable or no file of tensors; use an intact "
            "copy, for example the _best.pth beside a checkpoint"
        ) from error


def _check_archive(path: Path) -> None:
    """Raise an exception for a zip file that is not as `torch.save` writes it.

    Torch compares no check sums, and would unpack what a few bytes are said to be. Files of the
    older form, which are no zip files, have no sums to compare.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("compressed")
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise ValueError("overlapping")
        if damaged := archive.testzip():
            raise ValueError(damaged)


def _is_a(kind: type | tuple[type, ...], value: Any) -> bool:
    """Return whether `value` is of that `kind`; counts are not below 0 nor beyond all bounds."""
    if kind is int:
        return isinstance(value, int) and 0 <= value < 2**48
    return isinstance(value, kind)


def _is_state(state: Any) -> bool:
    """Return whether `state` holds dense tensors by name."""
    return isinstance(state, dict) and all(
        isinstance(key, str) and isinstance(value, Tensor) and value.layout == torch.strided
        for key, value in state.items()
    )


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
    try:
        model.load_state_dict(own | state)
    except (RuntimeError, TypeError) as error:
        raise UserError(f"{where}: tensors of another kind ({first_line(error)})") from error
    return allowed


def _present(path: Path) -> str:
    kind = path.suffix or ".pth"
    names = [file.name for file in path.parent.glob(f"*{kind}")]
    near = difflib.get_close_matches(path.name, names, n=_SHOWN, cutoff=0.0)
    return f"the nearest there: {', '.join(near)}" if near else f"no {kind} file is there yet"


def _listed(what: str, keys: list[str]) -> str:
    return f"{what} {', '.join(keys)}" if keys else ""
