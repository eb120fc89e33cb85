"""Checkpoint files: written whole or not at all, read without running code from them."""

from __future__ import annotations

import difflib
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from utils.runs.checkpoint_keys import of_wrong_kind
from utils.runs.paths import BEST, LAST
from utils.system.atomic_write import write_atomically
from utils.system.errors import UserError, first_line
from utils.system.text import listed

_PREFIX = "module."
_SHOWN = 4


def save(path: Path, content: dict[str, Any]) -> None:
    """Write `content` to `path` atomically; raises `UserError` where the disk refuses."""
    write_atomically(path, lambda file: torch.save(content, file))


def load(path: Path, flag: str = "--resume") -> dict[str, Any]:
    """Return the content of the checkpoint `path` on the CPU, tensor names without `module.`.

    Raises `UserError`, naming `flag`, for a missing, truncated or foreign file; see
    `checkpoint_keys` for the content.
    """
    content = read(path, flag)
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not _is_state(state):
        raise UserError(f"{flag} {path.name} is not a checkpoint: it has no state_dict of tensors")
    if wrong := of_wrong_kind(content):
        raise UserError(
            f"{flag} {path.name} is damaged or foreign: wrong kind of value in {listed(wrong)}"
        )
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
            warnings.simplefilter("ignore")  # the UserError says it
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # foreign bytes may fail anywhere in the unpickler
        raise UserError(
            f"{flag} {path.name}: truncated, unreadable or not a file of tensors; use an intact "
            f"copy, for example the {BEST} beside a checkpoint"
        ) from error


def _check_archive(path: Path) -> None:
    """Raise an exception for a zip file that `torch.save` did not write.

    torch verifies no checksums, and would unpack a few bytes into any size. Files in torch's older
    format are not zip files and have no checksums.
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


def _is_state(state: Any) -> bool:
    """Return whether `state` is a dict of dense tensors by name."""
    return isinstance(state, dict) and all(
        isinstance(key, str) and isinstance(value, Tensor) and value.layout == torch.strided
        for key, value in state.items()
    )


def without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `state`, in its order, with the keys of the unwrapped model."""
    return {key.removeprefix(_PREFIX): value for key, value in state.items()}


def load_weights(
    model: nn.Module, state: dict[str, Tensor], where: str, may_lack: str | None = None
) -> list[str]:
    """Copy `state` into `model`; return the keys missing in it, whose values `model` keeps.

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
        _keys("missing", [key for key in lacking if key not in allowed]),
        _keys("unexpected", [key for key in state if key not in shared]),
        _keys("of another shape", shapes),
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
    kind = path.suffix or LAST
    names = [file.name for file in path.parent.glob(f"*{kind}")]
    near = difflib.get_close_matches(path.name, names, n=_SHOWN, cutoff=0.0)
    return f"similar there: {', '.join(near)}" if near else f"no {kind} file is there yet"


def _keys(what: str, keys: list[str]) -> str:
    return f"{what} {listed(keys)}" if keys else ""
