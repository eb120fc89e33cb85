"""The embedded data set: 1,797 handwritten digits of 8x8 pixels (see data/README.md)."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F

from utils.datasets.image_tensors import ImageSet
from utils.system.errors import UserError, first_line
from utils.system.regular_file import open_regular

FILE = "digits.npz"
EMBEDDED = Path(__file__).resolve().parents[2] / "data"
LEVELS = 16  # grey levels are 0..16
CLASSES = tuple("0123456789")
_MOST_BYTES = 1 << 24  # a hundred times the size of the file


def load_digits(path: str | Path = EMBEDDED) -> tuple[np.ndarray, np.ndarray]:
    """Return images `(1797, 8, 8)` with grey levels 0..16 and labels `(1797,)`, both uint8.

    Read from `<path>/digits.npz`, or from the repository's data folder if there is no such file.
    Raises UserError if neither exists or the file cannot be read.
    """
    candidates = [Path(path) / FILE, EMBEDDED / FILE]
    file = next((f for f in candidates if f.is_file()), None)
    if file is None:
        raise UserError(f"--path {path}: no {FILE} here or in {EMBEDDED}; restore it from git")
    try:
        with open_regular(file, _MOST_BYTES) as stream:
            if _unpacked_bytes(stream) > _MOST_BYTES:
                raise ValueError("too large")
            arrays = np.load(stream, allow_pickle=False)
            images, labels = arrays["images"], arrays["labels"]
    except Exception as error:  # damaged zip and npy files raise almost any exception
        raise UserError(f"--path: cannot read {file} ({first_line(error)}); remove it") from error
    if not _are_digits(images, labels):
        raise UserError(f"--path: {file} does not hold the digits of data/README.md; remove it")
    return images, labels


def _unpacked_bytes(file: BinaryIO) -> int:
    """Return the sum of the sizes that the members of a zip file declare."""
    with zipfile.ZipFile(file) as archive:
        return sum(member.file_size for member in archive.infolist())


def _are_digits(images: np.ndarray, labels: np.ndarray) -> bool:
    return (
        isinstance(images, np.ndarray)  # a member that is not an array comes as bytes
        and isinstance(labels, np.ndarray)
        and images.ndim == 3
        and labels.shape == images.shape[:1]
        and images.dtype == np.uint8
        and labels.dtype.kind in "iu"
        and images.size > 0
        and images.max() <= LEVELS
        and 0 <= labels.min() <= labels.max() < len(CLASSES)
    )


def split_digits(labels: np.ndarray, test_share: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the training and test digits, a fixed split stratified by class."""
    rng = np.random.RandomState(0)  # the only generator whose stream NumPy guarantees
    train, test = [], []
    for digit in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == digit))
        cut = round(test_share * len(members))
        test.append(members[:cut])
        train.append(members[cut:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


def digit_images(path: str | Path = EMBEDDED) -> tuple[ImageSet, ImageSet]:
    """Return the training and test digits as images `(N, 3, 32, 32)`, upsampled bilinearly.

    Raises UserError like `load_digits`.
    """
    images, labels = load_digits(path)
    grey = torch.from_numpy(images).float()[:, None] * (255 / LEVELS)
    large = F.interpolate(grey, size=(32, 32), mode="bilinear", align_corners=False)
    pixels = large.round().to(torch.uint8).repeat(1, 3, 1, 1)
    targets = torch.from_numpy(labels).long()
    train, test = split_digits(labels)
    return ImageSet(pixels[train], targets[train]), ImageSet(pixels[test], targets[test])
