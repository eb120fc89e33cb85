"""Which checkpoint a run goes on from."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import Any

from utils.distributed.world import World
from utils.runs import checkpoint
from utils.runs.lock import RunLock
from utils.runs.paths import RunFiles
from utils.system.errors import UserError

AUTO = "auto"


def read(args: Namespace, files: RunFiles, world: World) -> dict[str, Any] | None:
    """Return the content of the checkpoint that `--resume` names, None where it names none.

    `auto` stands for the newest whole one of the run `files`; `--resume` holds its name afterwards,
    on every process, or is empty where there is none. Raises `UserError` for a file that cannot be
    read, for nothing to evaluate, and where another process trains under the name of `files`.
    """
    content = None
    if world.is_main and not args.evaluate:
        RunLock(files.lock).check()
    args.resume_auto = args.resume == AUTO
    if args.resume_auto:
        name, content = _newest(files, world.print_main) if world.is_main else ("", None)
        args.resume = world.broadcast(name)
        _tell(args, files, world)
    if args.resume and content is None:
        content = checkpoint.load(files.folder / args.resume)
    return content


def _newest(files: RunFiles, say: Callable[[str], None]) -> tuple[str, dict[str, Any] | None]:
    """Return the file name and the content of the checkpoint that got furthest.

    Damaged ones are named and passed over: a disk may lose what was written last.
    """
    name, content, furthest = "", None, (0, 0)
    for path in filter(lambda path: path.exists(), files.checkpoints()):
        try:
            found = checkpoint.load(path)
            progress = _progress(found, path.name)
        except UserError as error:
            say(f"note: passing over a checkpoint: {error}")
            continue
        if content is None or progress > furthest:
            name, content, furthest = path.name, found, progress
    return name, content


def _progress(content: dict[str, Any], file: str) -> tuple[int, int]:
    """Return how many epochs, and steps of the next one, were trained."""
    counts = content.get("epoch"), content.get("step", 0)
    if not all(isinstance(count, int) for count in counts):
        raise UserError(f"--resume {file}: it does not say how far it got")
    return counts


def _tell(args: Namespace, files: RunFiles, world: World) -> None:
    if args.resume:
        world.print_main(f"--resume auto: {args.resume}")
    elif args.evaluate:
        raise UserError(f"--resume auto: no checkpoint of {files.path('')} to evaluate")
    else:
        world.print_main(
            f"--resume auto: no checkpoint of {files.path('')}, so training starts anew"
        )
