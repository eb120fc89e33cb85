"""The checkpoint that a run is resumed from."""

from __future__ import annotations

import glob
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from utils.distributed.world import World
from utils.runs import checkpoint
from utils.runs.checkpoint_keys import CheckpointContent
from utils.runs.lock import RunLock
from utils.runs.paths import RunFiles
from utils.system.errors import UserError
from utils.system.text import listed

AUTO = "auto"


@dataclass(frozen=True)
class Resumed:
    """A checkpoint to resume from; `automatic` where it was found by `--resume auto`."""

    path: Path
    content: CheckpointContent
    automatic: bool = False

    @property
    def name(self) -> str:
        """The file name."""
        return self.path.name

    @property
    def imports(self) -> list[str]:
        """The files and modules of `--import` in the run that wrote it."""
        imports = self.content.get("args", {}).get("imports") or []
        return [str(source) for source in imports] if isinstance(imports, list) else []


def read(
    name: str, files: RunFiles, world: World, evaluate: bool = False, root: Path | None = None
) -> Resumed | None:
    """Load the checkpoint that `--resume name` means, None if there is none to resume from.

    `name` is `auto` for the checkpoint of the run `files` with the most training steps; empty for
    a new run; else the name or path of a file, found as by `locate`. Raises `UserError` if the
    file cannot be read, if `auto` finds no checkpoint to `evaluate`, and if another process trains
    under the name of `files`.
    """
    if world.is_main and not evaluate:
        RunLock(files).check()
    if name != AUTO:
        path = locate(name, files.folder, "--resume", root)
        return Resumed(path, checkpoint.load(path)) if name else None
    newest = _newest(files, world.print_main) if world.is_main else None
    name = world.broadcast(newest.name if newest else "")
    _print_choice(name, files, world, evaluate)
    if name and not newest:  # on the other ranks
        path = files.folder / name
        newest = Resumed(path, checkpoint.load(path), automatic=True)
    return newest


def locate(name: str, folder: Path, flag: str, root: Path | None = None) -> Path:
    """Return the path of the file that a flag names.

    Looks for `name` in `folder`, then as a path, then in each folder of `root`. Returns
    `folder / name` if there is no such file. Raises `UserError`, naming `flag`, if it is a folder
    or several folders of `root` contain it.
    """
    candidates = [folder / name, Path(name)]
    if found := next((path for path in candidates if path.is_file()), None):
        return folder / found.name if found.resolve().parent == folder.resolve() else found
    if name and any(path.is_dir() for path in candidates):
        raise UserError(f"{flag} {name}: a folder; name a file in it")
    others = sorted(root.glob(f"*/{glob.escape(name)}")) if root and name else []
    if len(others) > 1:
        raise UserError(f"{flag} {name}: is in {listed([str(p) for p in others])}; give the path")
    return others[0] if others else folder / name


def require_imports(network: str, resumed: Resumed | None) -> None:
    """Raise `UserError` if the unknown `network` was registered by `--import` in the earlier run.

    Code is run only when the command line names it, never because a checkpoint does.
    """
    if resumed and (imports := resumed.imports):
        raise UserError(
            f"--resume {resumed.name}: {network} is unknown; it was trained with --import "
            f"{listed(imports)}: pass that again to run the code"
        )


def _newest(files: RunFiles, note: Callable[[str], None]) -> Resumed | None:
    """Return the checkpoint with the most training steps; call `note` for each damaged one."""
    newest, furthest = None, (0, 0)
    for path in filter(Path.exists, files.checkpoints()):
        try:
            content = checkpoint.load(path)
            progress = _progress(content, path.name)
        except UserError as error:
            note(f"note: skipping a checkpoint: {error}")
            continue
        if newest is None or progress > furthest:
            newest, furthest = Resumed(path, content, automatic=True), progress
    return newest


def _progress(content: CheckpointContent, file: str) -> tuple[int, int]:
    """Return the numbers of epochs trained and of steps of the next epoch."""
    if "epoch" not in content:
        raise UserError(f"--resume {file}: it has no epoch")
    return content["epoch"], content.get("step", 0)


def _print_choice(name: str, files: RunFiles, world: World, evaluate: bool) -> None:
    if name:
        world.print_main(f"--resume auto: {name}")
    elif evaluate:
        raise UserError(f"--resume auto: no checkpoint of {files.path('')} to evaluate")
    else:
        world.print_main(f"--resume auto: no checkpoint of {files.path('')}, starting a new run")
