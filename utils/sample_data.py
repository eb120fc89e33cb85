"""Make data sets from the embedded digits, for machines without a network connection.

python -m utils.sample_data dvs --path ./data/DigitsDVS
python -m utils.sample_data imagefolder --path ./data/digits_imagefolder
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.events.cifar10_dvs import ARCHIVES
from utils.events.formats.aedat2 import encode_aedat2
from utils.events.simulation import simulate
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
    """One recording to simulate: its file, the image of row `row` in digits.npz, and the seed."""

    file: Path
    image: np.ndarray
    digit: int
    row: int
    seed: int


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; `args.make` is the chosen subcommand's function."""
    parser = FlagParser(prog="python -m utils.sample_data", description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(required=True, metavar="dvs | imagefolder")
    line = "simulated DVS128 recordings in the layout of CIFAR10-DVS"
    dvs = kinds.add_parser("dvs", help=line, description=line)
    dvs.set_defaults(make=make_dvs)
    dvs.add_argument("--path", default="./data/DigitsDVS", help="a new folder")
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
    """Write simulated recordings of the digits to `<path>/events`.

    The loader of CIFAR10-DVS expects its class names, which stand for the digits 0 to 9 here. Each
    image is recorded once, so it is either in the training set or in the test set. Raises UserError
    if `path` already contains recordings or frames.
    """
    # Imports torch, which the worker processes do not need.
    from utils.datasets.digits import load_digits

    root = Path(args.path)
    if (root / "events").exists() or any(root.glob("frames_num_*")):
        raise UserError(f"--path {root}: it already contains recordings or frames; name a new one")
    images, labels = load_digits()
    rows = _selected(labels, args.recordings, args.seed)
    with folder_atomically(root / "events", _REMEDY) as events:
        jobs = []
        for digit, name in enumerate(ARCHIVES):
            (events / name).mkdir()
            for number, row in enumerate(rows[labels[rows] == digit]):
                file = events / name / f"cifar10_{name}_{number}.aedat"
                jobs.append(Job(file, images[row], digit, int(row), args.seed))
        sizes = map_in_processes(_record, jobs, args.workers, "Simulating")
    first, *_, last = ARCHIVES
    print_line(f"{len(jobs):,} recordings of {np.mean(sizes):,.0f} events on average in {root}")
    print_line(f"the class folders {first} to {last} stand for the digits 0 to 9")


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
    """Simulate and write one recording; return its number of events."""
    events = simulate(job.image / LEVELS, np.random.default_rng([job.seed, job.row]))
    line = f"simulated: digit {job.digit}, row {job.row} of digits.npz, seed {job.seed}"
    job.file.write_bytes(encode_aedat2(events, [line]))
    return len(events)


if __name__ == "__main__":
    run(main)
