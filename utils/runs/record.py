"""The run record: commands, settings and versions that produced a run's files, as JSON."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from utils.system.atomic_write import write_atomically
from utils.system.errors import UserError

_PACKAGES = ("torch", "torchvision", "numpy")
_ROOT = Path(__file__).resolve().parents[2]


def append_record(path: Path, entry: dict[str, Any]) -> None:
    """Add `entry`, with the command line, versions and commit, to the list in the file `path`.

    Raises `UserError` when the file holds no such list.
    """
    started = {"command": shlex.join(sys.argv), **entry, "versions": versions()}
    _write(path, [*_read(path), started | {"commit": commit()}])


def extend_record(path: Path, facts: dict[str, Any]) -> None:
    """Add `facts` to the last entry of the list in the file `path`; raises as `append_record`."""
    *earlier, last = _read(path) or [{}]
    _write(path, [*earlier, {**last, **facts}])


def _write(path: Path, entries: list[dict[str, Any]]) -> None:
    text = json.dumps(entries, indent=2)
    write_atomically(path, lambda file: file.write(f"{text}\n".encode()))


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        return list(json.loads(path.read_text()))
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not a run record of this program: move it away") from error


def commit() -> str | None:
    """Return the commit of this project's checkout, with `-dirty` where files differ from it.

    None where it is not a git checkout of its own, or there is no git.
    """
    if not (_ROOT / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    packages = {name: metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **packages}
