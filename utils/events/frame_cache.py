"""Frames of event recordings, cached on disk in one npz file per sample."""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.events.formats.reader import read_events
from utils.events.frames import normalize, to_frames
from utils.events.recording import DVS128, Events
from utils.system.atomic_write import writing
from utils.system.errors import first_line
from utils.system.process_pool import map_in_processes
from utils.system.regular_file import open_regular
from utils.system.text import print_line

_MEMBER = "arr_0.npy"
_REMEDY = "make room or move --path"
_MAX_HEADER_BYTES = 1 << 16  # of an array in the npy format


class DamagedFrames(Exception):
    """A cache file is missing, incomplete, or contains something else."""


class Clip(NamedTuple):
    """A recording, the cache file of its frames, and the part to convert, if it is not the whole.

    The part is from the first time to the second, exclusive, in microseconds.
    """

    recording: Path
    frames: Path
    span: tuple[int, int] | None = None


@dataclass(frozen=True)
class FrameKind:
    """How recordings are converted to frames; see `utils.events.frames.to_frames`.

    Recordings have `sensor` rows and columns. With `binning`, each pixel of the frames counts the
    events of that many rows and columns; see `Events.binned`.
    """

    timesteps: int
    split_by: str = "number"
    normalization: str | None = None
    sensor: tuple[int, int] = DVS128
    binning: int = 1

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape `(T, 2, H, W)` of the frames of a recording."""
        side = -(-max(self.sensor) // self.binning)
        return self.timesteps, 2, *(self.sensor if self.binning == 1 else (side, side))

    @property
    def folder(self) -> str:
        """The name of the folder with such frames, as in the published code."""
        return (
            f"frames_num_{self.timesteps}_split_by_{self.split_by}"
            f"_normalization_{self.normalization}"
        )


def read_frames(path: Path, kind: FrameKind) -> np.ndarray:
    """Return the frames `(T, 2, H, W)` cached in `path`, normalised according to `kind`.

    Reads files of the published code (float64) and of this project (the smallest unsigned integer).
    Raises DamagedFrames if there is no such file or its content is wrong.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            size = archive.getinfo(_MEMBER).file_size
            if size > _MAX_HEADER_BYTES + math.prod(kind.shape) * 8:
                raise ValueError(f"{size:,} bytes are more than such frames have")
            content = archive.read(_MEMBER)  # completely, which verifies its checksum
        frames = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # damaged zip and npy files raise almost any exception
        raise DamagedFrames(f"{path}: {first_line(error)}") from error
    if frames.shape != kind.shape or frames.dtype.kind not in "iuf":
        raise DamagedFrames(f"{path}: an array {frames.dtype} {frames.shape} is not frames")
    return normalize(frames, kind.normalization)


def write_frames(path: Path, frames: np.ndarray) -> None:
    """Cache `frames` in `path`, in the smallest integer type; equal frames give equal bytes.

    The file appears once it is complete. Raises UserError when it cannot be written.
    """
    if frames.dtype.kind in "iu":
        frames = frames.astype(np.min_scalar_type(frames.max()))
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp")
    with writing(path, _REMEDY):
        try:
            # No fsync: it takes longer than the conversion, and reading detects damage.
            with (
                zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
                archive.open(_MEMBER, "w") as member,  # has a constant date
            ):
                np.lib.format.write_array(member, frames, allow_pickle=False)
            temporary.replace(path)
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def convert(clips: Sequence[Clip], kind: FrameKind) -> int:
    """Convert clips of one recording; return how often its timestamps step backwards.

    Raises UserError like `read_events`, `to_frames` and `write_frames`.
    """
    events = read_events(clips[0].recording, kind.sensor)
    for clip in clips:
        write_frames(clip.frames, _frames(events, clip, kind))
    return events.backward_steps


def convert_all(clips: Sequence[Clip], kind: FrameKind, workers: int) -> None:
    """Call `convert` for every recording in `workers` processes (0: in this one), with progress.

    Clips of one recording follow each other. Raises UserError for a bad recording; the frames
    converted before it are kept.
    """
    for folder in {clip.frames.parent for clip in clips}:
        with writing(folder, _REMEDY):
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob(".*.tmp"):  # of a conversion that was killed
                leftover.unlink()
    jobs = [list(group) for _, group in groupby(clips, key=lambda clip: clip.recording)]
    steps = map_in_processes(partial(convert, kind=kind), jobs, workers, "Converting")
    if any(steps):
        print_line(
            f"warning: timestamps step backwards {sum(steps):,} times in"
            f" {np.count_nonzero(steps):,} recordings; events keep the order of their files"
        )


def _frames(events: Events, clip: Clip, kind: FrameKind) -> np.ndarray:
    """Return the frames of a clip of the recording `events`."""
    if clip.span:
        events = events.between(*clip.span)
    if kind.binning > 1:
        events = events.binned(kind.binning)
    applied = kind.normalization if kind.normalization == "frequency" else None
    return to_frames(events, kind.timesteps, kind.split_by, applied)
