"""Frames of event recordings, kept on disk as one npz file a recording."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from utils.events.frames import normalize, to_frames
from utils.events.reader import read_events
from utils.events.recording import SIZE
from utils.system.errors import UserError, first_line
from utils.system.process_pool import map_in_processes

_MEMBER = "arr_0.npy"
_HEADER = 1 << 16  # bytes that the description of an array never reaches


class DamagedFrames(Exception):
    """A cache file that is missing, incomplete, or holds something else."""


@dataclass(frozen=True)
class FrameKind:
    """How recordings become frames; see `utils.events.frames.to_frames`."""

    timesteps: int
    split_by: str = "number"
    normalization: str | None = None

    @property
    def folder(self) -> str:
        """The published name of the folder that caches such frames."""
        return (
            f"frames_num_{self.timesteps}_split_by_{self.split_by}"
            f"_normalization_{self.normalization}"
        )


def read_frames(path: Path, kind: FrameKind) -> np.ndarray:
    """Return the frames `(T, 2, 128, 128)` cached in `path`, normalised as `kind` says.

    The published files (float64) and this project's (the smallest unsigned integer) are read
    alike. Raises DamagedFrames where there is no such file or its content is wrong.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo(_MEMBER).file_size
            if size > _HEADER + kind.timesteps * 2 * SIZE * SIZE * 8:
                raise ValueError(f"{size:,} bytes are more than such frames have")
            content = archive.read(_MEMBER)  # whole, hence checked, before any of it is parsed
        frames = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # foreign bytes can make a reader of zip and npy stumble anywhere
        raise DamagedFrames(f"{path}: {first_line(error)}") from error
    if frames.shape != (kind.timesteps, 2, SIZE, SIZE) or frames.dtype.kind not in "iuf":
        raise DamagedFrames(f"{path}: {frames.dtype} {frames.shape} instead of frames")
    return normalize(frames, kind.normalization)


def write_frames(path: Path, frames: np.ndarray) -> None:
    """Cache `frames` in `path`: integers as small as they fit, the same bytes for the same frames.

    A reader sees the whole file or none. Raises UserError when the disk refuses.
    """
    if frames.dtype.kind in "iu":
        frames = frames.astype(np.min_scalar_type(frames.max()))
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp")
    try:
        # No fsync: on a disk it takes longer than the conversion, and damage is found on reading.
        with (
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            archive.open(_MEMBER, "w") as member,  # dated 1980, whatever the day
        ):
            np.lib.format.write_array(member, frames, allow_pickle=False)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(
            f"cannot write {path} ({error.strerror}): make room or move --path"
        ) from error


def convert(job: tuple[Path, Path], kind: FrameKind) -> int:
    """Cache the frames of one (recording, cache file); return its timestamps' backward steps.

    Raises UserError as `read_events` and `to_frames` do.
    """
    recording, target = job
    events = read_events(recording)
    applied = kind.normalization if kind.normalization == "frequency" else None
    write_frames(target, to_frames(events, kind.timesteps, kind.split_by, applied))
    return events.backward_steps


def convert_all(jobs: Sequence[tuple[Path, Path]], kind: FrameKind, workers: int) -> None:
    """Do every job of `convert` in `workers` processes (0: in this one), and say how far it is.

    Raises UserError for a bad recording; what was converted before it stays.
    """
    for folder in {target.parent for _, target in jobs}:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".*.tmp"):  # of a conversion that was killed
            leftover.unlink()
    steps = map_in_processes(partial(convert, kind=kind), jobs, workers, "Converting")
    if any(steps):
        print(
            f"warning: timestamps step backwards {sum(steps):,} times in"
            f" {np.count_nonzero(steps):,} recordings; events keep the order of their files"
        )
