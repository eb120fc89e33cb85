"""The layout of DVS128 Gesture: 11 gestures of 29 people before a DVS128.

A. Amir et al., A low power, fully event-based gesture recognition system, CVPR 2017.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from utils.events.archives import Archive
from utils.events.collection import Collection, Sample
from utils.events.frame_cache import FrameKind
from utils.system.errors import UserError
from utils.system.regular_file import open_regular

FOLDER = "DvsGesture"
HEADER = "class,startTime_usec,endTime_usec"  # of the files of labels
LISTS = {"train": "trials_to_train.txt", "test": "trials_to_test.txt"}
ARCHIVE = Archive(
    "DvsGesture.tar.gz",
    "8a5c71fb11e24e5ca5b11866ca6c00a1",
    (),
    "https://ibm.ent.box.com/s/3hiq58ww1pbbjrinh367ykfdf60xsfm8/folder/50167556794",
    FOLDER,
    r"(?:\./)?DvsGesture/([\w-]+(?:\.aedat|_labels\.csv|\.txt))",
)
CLASSES = (
    "hand_clapping",
    "right_hand_wave",
    "left_hand_wave",
    "right_arm_clockwise",
    "right_arm_counter_clockwise",
    "left_arm_clockwise",
    "left_arm_counter_clockwise",
    "arm_roll",
    "air_drums",
    "air_guitar",
    "other_gestures",
)
_MAX_BYTES = 1 << 20  # of a list or a file of labels
_MAX_CLIPS = 1000  # in a recording; the published ones have 12 or so
_RECORDING = re.compile(r"[\w-]+\.aedat")
_ROW = re.compile(r"(\d{1,2}),(\d{1,15}),(\d{1,15})")


class DVS128Gesture(Collection):
    """DVS128 Gesture: `DvsGesture/<name>.aedat`, each with its gestures in `<name>_labels.csv`."""

    name = "DVS128Gesture"

    def classes(self, root: Path) -> tuple[str, ...]:
        return CLASSES

    def missing(self, root: Path, kind: FrameKind) -> list[Archive]:
        return [] if (root / FOLDER).is_dir() else [ARCHIVE]

    def samples(self, root: Path, kind: FrameKind) -> list[Sample]:
        """Return the gestures of the recordings that the two lists name, in their order."""
        folder = root / FOLDER
        if not folder.is_dir():
            return []
        return [
            sample
            for half, name in LISTS.items()
            for recording in _listed(folder / name)
            for sample in _gestures(recording, root / kind.folder / half, half)
        ]

    def split(self, samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
        """Return the gestures of the recordings in `trials_to_train.txt`, and of the others."""
        train, test = ([s for s in samples if s.half == half] for half in LISTS)
        if not train or not test:
            raise UserError(f"--path: no gestures in {FOLDER}/ to train with, or none to test")
        return train, test


def _listed(path: Path) -> Iterator[Path]:
    """Return the recordings that the file `path` names, one in each line."""
    for number, line in enumerate(_lines(path), 1):
        if not _RECORDING.fullmatch(line):
            raise UserError(f"{path}: line {number} is not the name of an .aedat file")
        recording = path.with_name(line)
        if not recording.exists():
            raise UserError(f"{path}: line {number} names {line}, which is not there")
        yield recording


def _gestures(recording: Path, cache: Path, half: str) -> Iterator[Sample]:
    """Return the gestures of a recording; times are in microseconds, the end is exclusive."""
    path = recording.with_name(f"{recording.stem}_labels.csv")
    header, *rows = _lines(path) or [""]
    if header.replace(" ", "") != HEADER:
        raise UserError(f"{path}: its first line is not {HEADER}")
    if len(rows) > _MAX_CLIPS:
        raise UserError(f"{path}: {len(rows)} gestures, more than the {_MAX_CLIPS} allowed")
    for number, row in enumerate(rows):
        match = _ROW.fullmatch(row.replace(" ", ""))
        label, start, stop = map(int, match.groups()) if match else (0, 0, 0)
        if not (1 <= label <= len(CLASSES) and start < stop):
            raise UserError(
                f"{path}: line {number + 2} is not a class of 1 to {len(CLASSES)}, a start and a"
                " later end"
            )
        frames = cache / str(label - 1) / f"{recording.stem}_{number}.npz"
        yield Sample(label - 1, number, recording, frames, half, (start, stop))


def _lines(path: Path) -> list[str]:
    """Return the lines of a small text file that are not empty."""
    try:
        with open_regular(path, _MAX_BYTES) as file:
            text = file.read().decode()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file; extract it again") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
