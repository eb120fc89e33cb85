"""Data sets made from the embedded digits, for machines without a network.

python -m utils.sample_data dvs --path ./data/DigitsDVS
python -m utils.sample_data imagefolder --path ./data/digits_imagefolder
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np

from utils.events.aedat2 import encode_aedat2
from utils.events.archives import ARCHIVES
from utils.events.simulation import simulate
from utils.system.entry import run
from utils.system.errors import UserError
from utils.system.flags import FlagParser, at_least
from utils.system.process_pool import map_in_processes

LEVELS = 16  # the digits' grey levels are 0..16
IMAGE_SIZE = 64  # pixels along each side of a written image


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; `args.make` is the chosen subcommand's function."""
    parser = FlagParser(prog="python -m utils.sample_data", description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(required=True, metavar="dvs | imagefolder")
    dvs = kinds.add_parser("dvs", help="simulated DVS128 recordings in the layout of CIFAR10-DVS")
    dvs.set_defaults(make=make_dvs)
    dvs.add_argument("--path", default="./data/DigitsDVS", help="a new folder")
    dvs.add_argument("--recordings", type=at_least(20), help="how many (default: every digit)")
    dvs.add_argument("--seed", type=at_least(0), default=0, help="of order, paths and noise")
    dvs.add_argument("-j", "--workers", type=at_least(0), default=2, help="processes")
    images = kinds.add_parser("imagefolder", help="PNG images, train/<digit>/ and val/<digit>/")
    images.set_defaults(make=make_imagefolder)
    images.add_argument("--path", default="./data/digits_imagefolder", help="a new folder")
    return parser


def make_dvs(args: argparse.Namespace) -> None:
    """Write simulated recordings of the digits to `<path>/events`.

    The ten class names of CIFAR10-DVS stand for the digits 0 to 9. Each image is recorded once, so
    none is in both halves. Raises UserError where `path` holds recordings or frames already.
    """
    from utils.datasets.digits import (
        load_digits,  # imports torch, which the worker processes do not need
    )

    root = Path(args.path)
    if (root / "events").exists() or any(root.glob("frames_num_*")):
        raise UserError(f"--path {root}: recordings or frames are here already; name a new folder")
    images, labels = load_digits()
    rows = _drawn(labels, args.recordings or len(labels), args.seed)
    unfinished = _fresh(root / ".events.partial")
    for name in ARCHIVES:
        (unfinished / name).mkdir()
    jobs = []
    for digit, name in enumerate(ARCHIVES):
        for number, row in enumerate(rows[labels[rows] == digit]):
            file = unfinished / name / f"cifar10_{name}_{number}.aedat"
            jobs.append((file, images[row], int(row), args.seed))
    sizes = map_in_processes(_record, jobs, args.workers, "Simulating")
    unfinished.rename(root / "events")
    print(f"{len(jobs):,} recordings of {np.mean(sizes):,.0f} events on average in {root}")


def make_imagefolder(args: argparse.Namespace) -> None:
    """Write the digits as 64x64 PNG images, split as `--dataset digits` splits them.

    Raises UserError where `path` exists.
    """
    from PIL import Image

    from utils.datasets.digits import load_digits, split_digits

    root = Path(args.path)
    if root.exists():
        raise UserError(f"--path {root}: exists already; name a new folder")
    images, labels = load_digits()
    unfinished = _fresh(root.with_name(f".{root.name}.partial"))
    for half, rows in zip(("train", "val"), split_digits(labels), strict=True):
        for row in rows:
            folder = unfinished / half / str(labels[row])
            folder.mkdir(parents=True, exist_ok=True)
            grey = Image.fromarray((images[row] * (255 / LEVELS)).round().astype(np.uint8))
            large = grey.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
            large.convert("RGB").save(folder / f"{row:04d}.png")
    unfinished.rename(root)
    print(f"{len(labels):,} images in {root}")


def main() -> None:
    """Make the data set that the command line names."""
    args = build_parser().parse_args()
    args.make(args)


def _drawn(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the rows of `count` digits in random order, alike in every class.

    The order mixes the writers, who would otherwise be others in the test half.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), int)  # a digit's place within its class
    for digit in np.unique(labels):
        members = order[labels[order] == digit]
        rank[members] = np.arange(len(members))
    return np.lexsort((labels, rank))[:count]


def _record(job: tuple[Path, np.ndarray, int, int]) -> int:
    """Simulate and write one recording; return its number of events."""
    file, image, row, seed = job
    events = simulate(image / LEVELS, np.random.default_rng([seed, row]))
    file.write_bytes(encode_aedat2(events, [f"simulated: digit {row} of digits.npz, seed {seed}"]))
    return len(events)


def _fresh(folder: Path) -> Path:
    """Return `folder` made empty; it is what an interrupted call left behind."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"--path: cannot write {folder} ({error.strerror})") from error
    return folder


if __name__ == "__main__":
    run(main)
