"""An ImageFolder (train/<class>/, test/<class>/) decoded once into memory."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from utils.datasets.image_tensors import ImageSet
from utils.system.errors import UserError
from utils.system.progress_counter import count_progress

if TYPE_CHECKING:
    from PIL.Image import Image

Sample = tuple[str, int]  # file, label


def load_folder(
    path: str | Path, size: int = 32, workers: int = 4, quiet: bool = False
) -> tuple[ImageSet, ImageSet, tuple[str, ...]]:
    """Return the training set, the test set and the class names of the image folder at `path`.

    Every image becomes RGB of `size` x `size` pixels; `workers` threads decode. Raises UserError
    as `list_folder` does, and for an unreadable image.
    """
    train, test, classes = list_folder(path)
    train_set = _decode(train, size, workers, quiet)
    return train_set, _decode(test, size, workers, quiet), classes


def list_folder(
    path: str | Path, flag: str = "--path", tests: Sequence[str] = ("test", "val")
) -> tuple[list[Sample], list[Sample], tuple[str, ...]]:
    """Return the training samples, the test samples and the class names of an image folder.

    The test samples lie in the first folder there is of `tests`. Raises UserError, naming `flag`,
    for a folder without training or test images and for classes that differ between the two.
    """
    layout = (
        f"expected train/<class>/ and {' or '.join(f'{name}/<class>/' for name in tests)} "
        "with images"
    )
    train, test = (_part(Path(path), names, flag, layout) for names in (("train",), tests))
    train_samples, classes = _list_images(train, flag, layout)
    test_samples, test_classes = _list_images(test, flag, layout)
    if classes != test_classes:
        differ = ", ".join(sorted(set(classes) ^ set(test_classes)))
        raise UserError(
            f"{flag} {path}: classes in only one of train/ and {test.name}/: {differ};"
            " both need the same class folders"
        )
    return train_samples, test_samples, tuple(classes)


def open_rgb(file: str, flag: str = "--path") -> Image:
    """Return the whole image in `file` as RGB; raises UserError naming an unreadable one."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            image.load()
            return image if image.mode == "RGB" else image.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = str(error).replace(file, "it")
        raise UserError(f"{flag}: cannot read image {file} ({reason}); remove it") from error


def _part(path: Path, names: Sequence[str], flag: str, layout: str) -> Path:
    """Return the first existing subfolder of `path` among `names`."""
    for name in names:
        if (path / name).is_dir():
            return path / name
    raise UserError(f"{flag} {path}: no folder {' or '.join(names)} in it; {layout}")


def _list_images(folder: Path, flag: str, layout: str) -> tuple[list[Sample], list[str]]:
    """Return the images of `folder` and its classes."""
    from torchvision.datasets import ImageFolder

    try:
        listing = ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise UserError(f"{flag}: {error}; {layout}") from error
    return listing.samples, listing.classes


def _decode(samples: Sequence[Sample], size: int, workers: int, quiet: bool) -> ImageSet:
    """Read the images of `samples` with `workers` threads (Pillow decodes outside the GIL)."""
    images = np.empty((len(samples), size, size, 3), dtype=np.uint8)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        decoded = pool.map(lambda sample: _read_image(sample[0], size), samples)
        for row, image in enumerate(count_progress(decoded, "Decoding", len(samples), quiet)):
            images[row] = image
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return ImageSet(pixels, torch.tensor([label for _, label in samples]))


def _read_image(file: str, size: int) -> np.ndarray:
    """Return one image as RGB `(size, size, 3)`."""
    from PIL.Image import Resampling

    image = open_rgb(file)
    return np.asarray(image.resize((size, size), Resampling.BILINEAR))
