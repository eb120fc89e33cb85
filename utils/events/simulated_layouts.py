"""Files of simulated recordings of digits, in the layouts of the event data sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from utils.events import cifar10_dvs, dvs_gesture
from utils.events.formats.aedat2 import encode_aedat2
from utils.events.formats.aedat3 import encode_aedat3
from utils.events.formats.atis import N_CALTECH101, N_MNIST, encode_atis
from utils.events.recording import Events
from utils.events.simulation import Camera, simulate

CAMERAS = {
    "CIFAR10DVS": Camera(),
    "DVS128Gesture": Camera(),
    "NMNIST": Camera(sensor=N_MNIST, image_size=28, radius=2, duration=300_000),
    "NCaltech101": Camera(sensor=N_CALTECH101, image_size=150, radius=8, duration=300_000),
}
FOLDERS = {  # below --path
    "CIFAR10DVS": ("events",),
    "DVS128Gesture": (dvs_gesture.FOLDER,),
    "NMNIST": ("Train", "Test"),
    "NCaltech101": ("Caltech101",),
}
_PAUSE = 1_000_000  # microseconds before each clip of a recording of several
_TEST_SHARE = 5  # every fifth recording is for testing, where the layout tells


@dataclass(frozen=True)
class Planned:
    """One file: in which of the folders, its path there, and the digits it records, with rows."""

    folder: str
    path: str
    digits: tuple[int, ...]
    rows: tuple[int, ...]


def plan(dataset: str, labels: np.ndarray, rows: Sequence[int]) -> list[Planned]:
    """Return the files that record the digits `rows`, of which each is recorded once."""
    members = [[int(row) for row in rows if labels[row] == digit] for digit in range(10)]
    most = max(map(len, members))
    first_test = most - max(1, most // _TEST_SHARE)
    if dataset == "DVS128Gesture":
        return [_gestures(k, members) for k in range(most)]
    files = []
    for digit, of_digit in enumerate(members):
        for k, row in enumerate(of_digit):
            folder = FOLDERS[dataset][-1 if k >= first_test else 0]
            files.append(Planned(folder, _path(dataset, digit, k), (digit,), (row,)))
    return files


def record(file: Planned, dataset: str, images: Sequence[np.ndarray], seed: int) -> list[Events]:
    """Return the simulated clips of a file; `images` are those of its rows, from 0 to 1."""
    return [
        simulate(image, np.random.default_rng([seed, row]), CAMERAS[dataset])
        for image, row in zip(images, file.rows, strict=True)
    ]


def encode(file: Planned, dataset: str, clips: Sequence[Events], seed: int) -> dict[str, bytes]:
    """Return the content of a file, and of the labels beside it if there are any, by name."""
    if dataset == "CIFAR10DVS":
        (digit,), (row,) = file.digits, file.rows
        line = f"simulated: digit {digit}, row {row} of digits.npz, seed {seed}"
        return {file.path: encode_aedat2(clips[0], [line])}
    if dataset != "DVS128Gesture":
        return {file.path: encode_atis(clips[0])}
    lines, parts, start = [dvs_gesture.HEADER], [], 0
    for digit, clip in zip(file.digits, clips, strict=True):
        start += _PAUSE
        stop = start + int(clip.t[-1]) + 1
        lines.append(f"{digit + 1},{start},{stop}")
        parts.append(replace(clip, t=clip.t + start))
        start = stop
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in "txyp"}
    labels = file.path.replace(".aedat", "_labels.csv")
    return {
        file.path: encode_aedat3(Events(**joined)),
        labels: ("\n".join(lines) + "\n").encode(),
    }


def write_lists(dataset: str, files: Sequence[Planned], folder: Path) -> None:
    """Write the lists of training and test recordings, in the layout that has them."""
    if dataset == "DVS128Gesture":
        cut = len(files) - max(1, len(files) // _TEST_SHARE)
        for half, part in (("train", files[:cut]), ("test", files[cut:])):
            text = "".join(f"{file.path}\n" for file in part)
            (folder / dvs_gesture.LISTS[half]).write_text(text)


def explanation(dataset: str) -> str:
    """Return what the classes of the layout stand for."""
    if dataset == "CIFAR10DVS":
        first, *_, last = cifar10_dvs.CLASSES
        return f"the class folders {first} to {last} stand for the digits 0 to 9"
    if dataset == "DVS128Gesture":
        return "the classes 1 to 10 stand for the digits 0 to 9; the 11th is empty"
    return "the class folders are named after the digits"


def _gestures(k: int, members: Sequence[Sequence[int]]) -> Planned:
    """Return the recording of the digits number `k` of each class."""
    clips = list(_numbered(k, members))
    digits, rows = zip(*clips, strict=True)
    return Planned(dvs_gesture.FOLDER, f"user{k + 1:02d}_led.aedat", digits, rows)


def _numbered(k: int, members: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    return ((digit, rows[k]) for digit, rows in enumerate(members) if k < len(rows))


def _path(dataset: str, digit: int, k: int) -> str:
    if dataset == "CIFAR10DVS":
        name = cifar10_dvs.CLASSES[digit]
        return f"{name}/cifar10_{name}_{k}.aedat"
    if dataset == "NMNIST":
        return f"{digit}/{10 * k + digit + 1:05d}.bin"
    return f"digit_{digit}/image_{k + 1:04d}.bin"
