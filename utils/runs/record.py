"""The run record: commands, settings and versions that produced a run's files, as JSON."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from utils.system.atomic_write import write_atomically
from utils.system.errors import UserError

_PACKAGES = ("torch", "torchvision", "numpy")


def append_record(path: Path, entry: dict[str, Any]) -> None:
    """Add `entry`, with the command line and versions, to the list in the file `path`.

    Raises `UserError` when the file holds no such list.
    """
    started = {"command": shlex.join(sys.argv), **entry, "versions": versions()}
    text = json.dumps([*_read(path), started], indent=2)
    write_atomically(path, lambda file: file.write(f"{text}\n".encode()))


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        return list(json.loads(path.read_text()))
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not a run record of this program: move it away") from error


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    packages = {name: metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **packages}
