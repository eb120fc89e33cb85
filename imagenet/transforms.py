"""Image transforms between decoding and batching."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

Transform = Callable[["Image"], "Image"]

_MARGIN = 256 / 224  # of the resized image over its centre crop


def train_transform(size: int, min_crop: float = 0.08, flip: bool = True) -> Transform:
    """Return a random resized crop of `size` pixels, at least `min_crop` of the image, then a flip.

    Draws from torch's global generator.
    """
    from torchvision import transforms

    crop = transforms.RandomResizedCrop(size, scale=(min_crop, 1.0))
    mirror = transforms.RandomHorizontalFlip(0.5 if flip else 0.0)
    return transforms.Compose([crop, mirror])


def test_transform(size: int) -> Transform:
    """Return a resize of the shorter side and the centre crop of `size` pixels."""
    from torchvision import transforms

    return transforms.Compose(
        [transforms.Resize(round(size * _MARGIN)), transforms.CenterCrop(size)]
    )


test_transform.__test__ = False  # not a test, whatever pytest reads into its name
