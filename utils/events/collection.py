"""Collections of event recordings: their samples, and the frames of these, below one folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.events.archives import Archive, obtain
from utils.events.frame_cache import (
    Clip,
    DamagedFrames,
    FrameKind,
    convert,
    convert_all,
    read_frames,
)
from utils.events.recording import DVS128
from utils.system.errors import UserError
from utils.system.file_lock import FileLock, LockHeld
from utils.system.text import print_line


@dataclass(frozen=True)
class Sample:
    """One sample: class index, number within the class, recording if it exists, and cache file.

    `half` is `train` or `test` where the files tell; `span` is the part of the recording in
    microseconds, if it is not the whole.
    """

    label: int
    number: int
    events: Path | None
    frames: Path
    half: str = ""
    span: tuple[int, int] | None = None

    @property
    def clip(self) -> Clip:
        """The conversion that makes the frames."""
        return Clip(self.events, self.frames, self.span)


class Collection(ABC):
    """The layout of a data set of recordings.

    `name` is that of `--dataset`; recordings have `sensor` rows and columns, which `binning` makes
    fewer; frames are resized to `size` pixels along each side, unless they have these already, and
    cropped at random with `padding`.
    """

    name: str
    sensor = DVS128
    binning = 1
    size = 48
    padding = 4

    def kind(self, timesteps: int) -> FrameKind:
        """Return the conversion of this collection's recordings."""
        return FrameKind(timesteps, sensor=self.sensor, binning=self.binning)

    @abstractmethod
    def classes(self, root: Path) -> tuple[str, ...]:
        """Return the names of the classes, in label order."""

    @abstractmethod
    def missing(self, root: Path, kind: FrameKind) -> list[Archive]:
        """Return the archives of which nothing is extracted below `root`."""

    @abstractmethod
    def samples(self, root: Path, kind: FrameKind) -> list[Sample]:
        """Return all samples below `root`; raises UserError if its files contradict each other."""

    @abstractmethod
    def split(self, samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
        """Return the training and the test samples; raises UserError if either would be empty."""


def prepare(collection: Collection, root: Path, kind: FrameKind, workers: int) -> None:
    """Download, extract and convert what is missing below `root`, one process at a time.

    A second process waits for the first. If nothing is missing, nothing is written, so `root` may
    be read-only.
    """
    if not (collection.missing(root, kind) or missing_frames(collection, root, kind)):
        return
    with _locked(root):
        obtain(collection.missing(root, kind), root)
        convert_all(missing_frames(collection, root, kind), kind, workers)


def missing_frames(collection: Collection, root: Path, kind: FrameKind) -> list[Clip]:
    """Return the conversions that are left to do."""
    samples = collection.samples(root, kind)
    return [s.clip for s in samples if s.events and not s.frames.exists()]


def read_sample(sample: Sample, kind: FrameKind) -> np.ndarray:
    """Return the frames `(T, 2, H, W)` of a sample, converting it again if they are damaged.

    Raises UserError if there is no recording to convert.
    """
    try:
        return read_frames(sample.frames, kind)
    except DamagedFrames as error:
        if sample.events is None:
            raise UserError(f"{error}: damaged, and there is no recording to convert") from error
        print_line(f"{sample.frames} is damaged: converting its recording again")
    cache = next(folder for folder in sample.frames.parents if folder.name == kind.folder)
    with _locked(cache.parent):
        convert([sample.clip], kind)
    return read_frames(sample.frames, kind)


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the lock on `root`; that of a killed process is released by the system."""
    lock = FileLock(root / ".lock")
    try:
        root.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except LockHeld as holder:
            print_line(f"{holder} prepares {root}: waiting for it")
            lock.acquire(wait=True)
    except OSError as error:
        raise UserError(f"--path {root}: cannot be written ({error.strerror})") from error
    try:
        yield
    finally:
        lock.release()
