"""Measure the ImageNet input pipeline: images per second of its steps and of its loaders.

The steps (decode, crop, resize) run in a single process; the loaders deliver batches on the
training device. Without --path, generated JPEG files of the size of photographs are used
(500x375 pixels, 110 kB).

    python benchmarks/decode_images.py [--path FOLDER] [--workers 1 2] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe  # noqa: E402
from imagenet.datasets import BatchKeys, Images  # noqa: E402
from imagenet.loaders import FolderLoader  # noqa: E402
from imagenet.transforms import test_transform, train_transform  # noqa: E402
from utils.datasets.image_folder import open_rgb  # noqa: E402
from utils.datasets.sharding import test_spans  # noqa: E402
from utils.distributed.launch_env import single_process  # noqa: E402

ENDINGS = (".jpg", ".jpeg", ".png")


def draw_images(folder: Path, count: int) -> None:
    """Write `count` JPEG files of smooth random colours under noise."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for k in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), dtype=float)
        noisy = (smooth + rng.normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{k}.jpg", quality=90)


def rates(files: list[str], workers: list[int], rounds: int, batch: int) -> dict[str, list[float]]:
    """Return the images per second of each step and loader, one value per round."""
    steps: dict[str, Callable[[int], object]] = {
        "decode": lambda _: [open_rgb(file) for file in files],
        "decode, training crop": _transformed(files, train_transform(224)),
        "decode, resize, centre crop": _transformed(files, test_transform(224)),
    }
    for count in workers:
        steps[f"loader, {count} processes"] = _loader(files, count, batch)
    measured: dict[str, list[float]] = {name: [] for name in steps}
    for epoch in range(rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step(epoch)
            measured[name].append(len(files) / (time.perf_counter() - started))
    return {name: values[1:] for name, values in measured.items()}


def _transformed(files: list[str], transform: Callable) -> Callable[[int], object]:
    images = Images([(file, 0) for file in files], transform, seed=0, substitute=False)
    return lambda epoch: [images[epoch, row] for row in range(len(files))]


def _loader(files: list[str], workers: int, batch: int) -> Callable[[int], object]:
    images = Images([(file, 0) for file in files], train_transform(224), 0, substitute=False)
    keys = BatchKeys(test_spans(len(files), batch), lambda epoch: np.arange(len(files)))
    loader = FolderLoader(images, keys, single_process(), workers)

    def epoch_of_batches(epoch: int) -> None:
        loader.set_epoch(epoch)
        for _ in loader:
            pass

    return epoch_of_batches


def build_parser() -> argparse.ArgumentParser:
    """Return the flags of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--path", type=Path, help="a folder of images, searched in depth")
    parser.add_argument(
        "--images", type=int, default=600, help="images per epoch; files are repeated"
    )
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[1, 2], help="numbers of loader processes"
    )
    parser.add_argument("--rounds", type=int, default=3, help="epochs to measure")
    return parser


def main(args: argparse.Namespace) -> None:
    """Print the machine, and a line for each step and loader."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as drawn:
        if args.path is None:
            draw_images(Path(drawn), 20)
        paths = sorted((args.path or Path(drawn)).rglob("*"))
        files = [str(path) for path in paths if path.suffix.lower() in ENDINGS]
        size = sum(Path(file).stat().st_size for file in files) / len(files)
        files = (files * -(-args.images // len(files)))[: args.images]
        print(*describe().values(), f"{size / 1000:.0f} kB per image", sep="; ")
        for name, values in rates(files, args.workers, args.rounds, args.batch).items():
            spread = f"{min(values):,.0f} to {max(values):,.0f}"
            print(f"{name:28s} {statistics.median(values):>8,.0f} images/s  ({spread})")


if __name__ == "__main__":
    main(build_parser().parse_args())
