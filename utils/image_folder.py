"""An ImageFolder (train/<class>/, test/<class>/) decoded once into memory."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from utils.errors import UserError
from utils.images import ImageSet
from utils.tally import tally

LAYOUT = "expected train/<class>/ and test/<class>/ (or val/<class>/) with images"


def load_folder(
    path: str | Path, size: int = 32, workers: int = 4, quiet: bool = False
) -> tuple[ImageSet, ImageSet, tuple[str, ...]]:
    """Return the training set, the test set and the class names of the image folder at `path`.

    Every image becomes RGB of `size` x `size` pixels; `workers` threads decode. Raises UserError
    for a folder without training or test images, for classes that differ between the two, and for
    an unreadable image.
    """
    train_samples, classes = _list_images(_part(path, "train"))
    test_folder = _part(path, "test", "val")
    test_samples, test_classes = _list_images(test_folder)
    if classes != test_classes:
        differ = ", ".join(sorted(set(classes) ^ set(test_classes)))
        raise UserError(
            f"--path {path}: classes in only one of train/ and {test_folder.name}/: {differ};"
            " both need the same class folders"
        )
    train = _decode(train_samples, size, workers, quiet)
    return train, _decode(test_samples, size, workers, quiet), tuple(classes)


def _part(path: str | Path, *names: str) -> Path:
    """Return the first existing subfolder of `path` among `names`."""
    for name in names:
        if (Path(path) / name).is_dir():
            return Path(path) / name
    raise UserError(f"--path {path}: no folder {' or '.join(names)} in it; {LAYOUT}")


def _list_images(folder: Path) -> tuple[list[tuple[str, int]], list[str]]:
    """Return the images of `folder` as (file, label) and its classes."""
    from torchvision.datasets import ImageFolder

    try:
        listing = ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise UserError(f"--path: {error}; {LAYOUT}") from error
    return listing.samples, listing.classes


def _decode(samples: Sequence[tuple[str, int]], size: int, workers: int, quiet: bool) -> ImageSet:
    """Read the images of `samples` with `workers` threads (Pillow decodes outside the GIL)."""
    images = np.empty((len(samples), size, size, 3), dtype=np.uint8)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        decoded = pool.map(lambda sample: _read_image(sample[0], size), samples)
        for row, image in enumerate(tally(decoded, "Decoding", len(samples), quiet)):
            images[row] = image
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return ImageSet(pixels, torch.tensor([label for _, label in samples]))


def _read_image(file: str, size: int) -> np.ndarray:
    """Return one image as RGB `(size, size, 3)`; raise UserError naming an unreadable one."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            resized = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(resized)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        reason = str(error).replace(file, "it")
        raise UserError(f"--path: cannot read image {file} ({reason}); remove it") from error
