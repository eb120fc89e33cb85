"""The files of CIFAR10-DVS, or of a collection with the same layout, below one folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.events.archives import ARCHIVES, obtain
from utils.events.frame_cache import DamagedFrames, FrameKind, convert, convert_all, read_frames
from utils.system.errors import UserError
from utils.system.file_lock import FileLock, LockHeld
from utils.system.text import print_line

CLASSES = tuple(ARCHIVES)
_FILE = re.compile(r"cifar10_(?P<name>[a-z]+)_(?P<number>\d+)\.(?:aedat4?|npz)")


@dataclass(frozen=True)
class Sample:
    """One recording: class index, number within the class, file if it exists, and cache file."""

    label: int
    number: int
    events: Path | None
    frames: Path


def prepare(root: Path, kind: FrameKind, workers: int) -> None:
    """Download, extract and convert what is missing below `root`, one process at a time.

    A second process waits for the first. If nothing is missing, nothing is written, so `root` may
    be read-only.
    """
    if not (_missing_classes(root, kind) or _missing_frames(root, kind)):
        return
    with _locked(root):
        obtain(_missing_classes(root, kind), root)
        convert_all(_missing_frames(root, kind), kind, workers)


def list_samples(root: Path, kind: FrameKind) -> list[Sample]:
    """Return the samples below `root` by class and number, also those with cached frames only."""
    return [sample for label in range(len(CLASSES)) for sample in _class_samples(root, kind, label)]


def split(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Return the training samples, the first 90 % of each class by number, and the test samples.

    Raises UserError if either would be empty.
    """
    train, test = [], []
    for label in range(len(CLASSES)):
        members = sorted((s for s in samples if s.label == label), key=lambda s: s.number)
        cut = len(members) * 9 // 10
        train += members[:cut]
        test += members[cut:]
    if not train or not test:
        raise UserError(f"--path: {len(samples)} recordings are too few for a 90 % split per class")
    return train, test


def read_sample(sample: Sample, kind: FrameKind) -> np.ndarray:
    """Return the frames `(T, 2, 128, 128)` of a sample, converting it again if they are damaged.

    Raises UserError if there is no recording to convert.
    """
    try:
        return read_frames(sample.frames, kind)
    except DamagedFrames as error:
        if sample.events is None:
            raise UserError(f"{error}: damaged, and there is no recording to convert") from error
        print_line(f"{sample.frames} is damaged: converting its recording again")
    with _locked(sample.frames.parents[2]):
        convert((sample.events, sample.frames), kind)
    return read_frames(sample.frames, kind)


def _class_samples(root: Path, kind: FrameKind, label: int) -> Iterator[Sample]:
    name = CLASSES[label]
    recordings = _numbered(root / "events" / name, name)
    cache = root / kind.folder / name
    for number in sorted(recordings.keys() | _numbered(cache, name).keys()):
        frames = cache / f"cifar10_{name}_{number}.npz"
        yield Sample(label, number, recordings.get(number), frames)


def _numbered(folder: Path, name: str) -> dict[int, Path]:
    """Return the files of class `name` in `folder`, by number."""
    files = folder.iterdir() if folder.is_dir() else ()
    matches = ((_FILE.fullmatch(file.name), file) for file in files)
    return {int(m["number"]): file for m, file in matches if m and m["name"] == name}


def _missing_classes(root: Path, kind: FrameKind) -> list[str]:
    present = {sample.label for sample in list_samples(root, kind)}
    return [name for label, name in enumerate(CLASSES) if label not in present]


def _missing_frames(root: Path, kind: FrameKind) -> list[tuple[Path, Path]]:
    samples = list_samples(root, kind)
    return [(s.events, s.frames) for s in samples if s.events and not s.frames.exists()]


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
