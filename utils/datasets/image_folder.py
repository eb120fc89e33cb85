"""An image folder (train/<class>/, test/<class>/), decoded once into memory."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from utils.datasets.image_tensors import ImageSet
from utils.system.errors import UserError, first_line
from utils.system.progress_counter import count_progress
from utils.system.regular_file import open_regular
from utils.system.text import listed

if TYPE_CHECKING:
    from PIL.Image import Image

Sample = tuple[str, int]  # file, label
# Pillow has more decoders, one of which starts an external program (PostScript).
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")


def load_folder(
    path: str | Path, size: int = 32, workers: int = 4, quiet: bool = False
) -> tuple[ImageSet, ImageSet, tuple[str, ...]]:
    """Return the training set, the test set and the class names of the image folder at `path`.

    Images are converted to RGB and resized to `size` x `size` pixels, by `workers` threads. Raises
    UserError like `list_folder`, and for an unreadable image.
    """
    train, test, classes = list_folder(path)
    train_set = _decode(train, size, workers, "training", quiet)
    return train_set, _decode(test, size, workers, "test", quiet), classes


def list_folder(
    path: str | Path, flag: str = "--path", tests: Sequence[str] = ("test", "val")
) -> tuple[list[Sample], list[Sample], tuple[str, ...]]:
    """Return the training samples, the test samples and the class names of an image folder.

    The test samples are in the first of the folders `tests` that exists. Raises UserError, naming
    `flag`, for a folder without training or test images, and for classes that differ between them.
    """
    layout = (
        f"expected train/<class>/ and {' or '.join(f'{name}/<class>/' for name in tests)} "
        "with images"
    )
    train, test = (_part(Path(path), names, flag, layout) for names in (("train",), tests))
    train_samples, classes = _list_images(train, flag, layout)
    test_samples, test_classes = _list_images(test, flag, layout)
    if classes != test_classes:
        differ = listed(sorted(set(classes) ^ set(test_classes)))
        raise UserError(
            f"{flag} {path}: classes in only one of train/ and {test.name}/: {differ};"
            " both need the same class folders"
        )
    return train_samples, test_samples, tuple(classes)


def open_rgb(file: str, flag: str = "--path") -> Image:
    """Return the decoded image in `file` as RGB.

    Raises UserError, naming `flag` and `file`, for a damaged image, one of another format than
    `FORMATS`, and anything but a regular file.
    """
    from PIL import Image

    try:
        with open_regular(file) as stream, Image.open(stream, formats=FORMATS) as image:
            image.load()
            return image if image.mode == "RGB" else image.convert("RGB")
    except Image.UnidentifiedImageError:
        reason = f"not one of {', '.join(FORMATS)}"
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
    raise UserError(f"{flag}: cannot read image {file} ({reason}); remove it")


def _part(path: Path, names: Sequence[str], flag: str, layout: str) -> Path:
    """Return the first existing subfolder of `path` among `names`."""
    for name in names:
        if (path / name).is_dir():
            return path / name
    raise UserError(f"{flag} {path}: it has no folder {' or '.join(names)}; {layout}")


def _list_images(folder: Path, flag: str, layout: str) -> tuple[list[Sample], list[str]]:
    """Return the samples and the class names of `folder`."""
    from torchvision.datasets import ImageFolder

    try:
        listing = ImageFolder(str(folder), allow_empty=True)
    except FileNotFoundError as error:
        raise UserError(f"{flag}: {error}; {layout}") from error
    used = {label for _, label in listing.samples}
    if empty := [name for label, name in enumerate(listing.classes) if label not in used]:
        raise UserError(f"{flag} {folder}: no images of class {listed(empty)}; {layout}")
    return listing.samples, listing.classes


def _decode(samples: Sequence[Sample], size: int, workers: int, part: str, quiet: bool) -> ImageSet:
    """Decode `samples` with `workers` threads; Pillow releases the GIL while it decodes."""
    images = np.empty((len(samples), size, size, 3), dtype=np.uint8)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        decoded = pool.map(lambda sample: _read_image(sample[0], size), samples)
        label = f"Decoding {part} images"
        for row, image in enumerate(count_progress(decoded, label, len(samples), quiet)):
            images[row] = image
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return ImageSet(pixels, torch.tensor([label for _, label in samples]))


def _read_image(file: str, size: int) -> np.ndarray:
    """Return one image as RGB `(size, size, 3)` uint8."""
    from PIL.Image import Resampling

    image = open_rgb(file)
    return np.asarray(image.resize((size, size), Resampling.BILINEAR))
