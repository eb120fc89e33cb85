"""Make data sets from the embedded digits, for machines without a network connection.

python -m utils.sample_data dvs --path ./data/DigitsDVS [--dataset NMNIST]
python -m utils.sample_data imagefolder --path ./data/digits_imagefolder
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.events.simulated_layouts import (
    FOLDERS,
    Planned,
    encode,
    explanation,
    plan,
    record,
    write_lists,
)
from utils.system.atomic_write import folder_atomically
from utils.system.entry import run
from utils.system.errors import UserError
from utils.system.flags import FlagParser, at_least, between
from utils.system.process_pool import map_in_processes
from utils.system.text import print_line

LEVELS = 16  # the digits' grey levels are 0..16
IMAGE_SIZE = 64  # pixels along each side of a written image
_REMEDY = "make room or choose another --path"


class Job(NamedTuple):
    """One file to simulate: its data set's layout and folder, its images, and the seed."""

    dataset: str
    folder: Path
    file: Planned
    images: list[np.ndarray]
    seed: int


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; `args.make` is the chosen subcommand's function."""
    parser = FlagParser(prog="python -m utils.sample_data", description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(required=True, metavar="dvs | imagefolder")
    line = "simulated recordings of an event camera in the layout of a data set"
    dvs = kinds.add_parser("dvs", help=line, description=line)
    dvs.set_defaults(make=make_dvs)
    dvs.add_argument("--path", default="./data/DigitsDVS", help="a new folder")
    dvs.add_argument(
        "--dataset", choices=list(FOLDERS), default="CIFAR10DVS", help="whose layout to write"
    )
    dvs.add_argument(
        "--recordings", type=between(20, 1797), default=1797, help="number of digits to record"
    )
    dvs.add_argument("--seed", type=at_least(0), default=0, help="of the order, paths and noise")
    dvs.add_argument("-j", "--workers", type=between(0, 256), default=2, help="processes")
    line = "PNG images in train/<digit>/ and val/<digit>/"
    images = kinds.add_parser("imagefolder", help=line, description=line)
    images.set_defaults(make=make_imagefolder)
    images.add_argument("--path", default="./data/digits_imagefolder", help="a new folder")
    return parser


def make_dvs(args: argparse.Namespace) -> None:
    """Write simulated recordings of the digits in the layout of `--dataset` below `--path`.

    Layouts with class names of their own keep them; they stand for the digits 0 to 9. Each image is
    recorded once, so it is either in the training set or in the test set. Raises UserError if
    `path` already contains recordings or frames.
    """
    # Imports torch, which the worker processes do not need.
    from utils.datasets.digits import load_digits

    root, folders = Path(args.path), FOLDERS[args.dataset]
    if any((root / name).exists() for name in folders) or any(root.glob("frames_num_*")):
        raise UserError(f"--path {root}: it already contains recordings or frames; name a new one")
    images, labels = load_digits()
    planned = plan(args.dataset, labels, _selected(labels, args.recordings, args.seed))
    sizes = []
    for name in folders:
        files = [file for file in planned if file.folder == name]
        with folder_atomically(root / name, _REMEDY) as unfinished:
            for folder in {(unfinished / file.path).parent for file in files}:
                folder.mkdir(exist_ok=True)
            jobs = [
                Job(args.dataset, unfinished, file, [images[row] for row in file.rows], args.seed)
                for file in files
            ]
            sizes += map_in_processes(_record, jobs, args.workers, "Simulating")
            write_lists(args.dataset, files, unfinished)
    count = sum(len(file.rows) for file in planned)
    print_line(f"{count:,} recordings of {sum(sizes) / count:,.0f} events on average in {root}")
    print_line(explanation(args.dataset))


def make_imagefolder(args: argparse.Namespace) -> None:
    """Write the digits as 64x64 PNG images, with the split of `--dataset digits`.

    Raises UserError if `path` exists.
    """
    from PIL import Image

    from utils.datasets.digits import load_digits, split_digits

    root = Path(args.path)
    if os.path.lexists(root):
        raise UserError(f"--path {root}: it exists already; name a new folder")
    images, labels = load_digits()
    with folder_atomically(root, _REMEDY) as unfinished:
        for half, rows in zip(("train", "val"), split_digits(labels), strict=True):
            for row in rows:
                folder = unfinished / half / str(labels[row])
                folder.mkdir(parents=True, exist_ok=True)
                grey = Image.fromarray((images[row] * (255 / LEVELS)).round().astype(np.uint8))
                large = grey.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
                large.convert("RGB").save(folder / f"{row:04d}.png")
    print_line(f"{len(labels):,} images in {root}")


def main() -> None:
    """Make the data set of the subcommand."""
    args = build_parser().parse_args()
    args.make(args)


def _selected(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the rows of `count` digits in random order, with equal numbers per class.

    The order mixes the writers; in the original order, those of the test set would be others.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), int)  # the position of a digit within its class
    for digit in np.unique(labels):
        members = order[labels[order] == digit]
        rank[members] = np.arange(len(members))
    return np.lexsort((labels, rank))[:count]


def _record(job: Job) -> int:
    """Simulate and write one file; return its number of events."""
    images = [image / LEVELS for image in job.images]
    clips = record(job.file, job.dataset, images, job.seed)
    for name, content in encode(job.file, job.dataset, clips, job.seed).items():
        (job.folder / name).write_bytes(content)
    return sum(map(len, clips))


if __name__ == "__main__":
    run(main)
