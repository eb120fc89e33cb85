"""Image sets in memory, and their batches, augmented on the training device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from utils.datasets.loader import Batch, Batching, Loaders, SpanLoader
from utils.datasets.sharding import Span, epoch_generator, test_spans, train_spans
from utils.datasets.validation_split import hold_out

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation per channel
Transform = Callable[[torch.Tensor], torch.Tensor]  # of a batch of images or frames


@dataclass(frozen=True)
class ImageSet:
    """Images `(N, C, H, W)`, uint8 unless they are event frames, and labels `(N,)` int64."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: np.ndarray) -> ImageSet:
        """Return the set of the samples in these `rows`."""
        index = torch.from_numpy(rows).to(self.labels.device)
        return ImageSet(self.images[index], self.labels[index])

    def to(self, device: torch.device) -> ImageSet:
        """Return the set on `device`."""
        return ImageSet(self.images.to(device), self.labels.to(device))

    def checksum(self) -> str:
        """Return the SHA-256 sum of images and labels, byte by byte."""
        digest = hashlib.sha256()
        for tensor in (self.images, self.labels):
            digest.update(tensor.cpu().contiguous().numpy())
        return digest.hexdigest()


@dataclass(frozen=True)
class Augmentation:
    """Random crop to the original size after `padding` zeros on each side, and horizontal flip."""

    padding: int = 4
    flip: bool = True


def channel_statistics(images: torch.Tensor) -> Statistics:
    """Return the mean and standard deviation of each channel of uint8 images `(N, C, H, W)`.

    Values are scaled to 0..1. The deviation of a constant channel is one grey level.
    """
    counts = torch.stack([torch.bincount(c.flatten(), minlength=256) for c in images.unbind(1)])
    share = counts.double() / counts.sum(1, keepdim=True)
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ levels
    std = (share * (levels - mean[:, None]) ** 2).sum(1).sqrt().clamp_min(1 / 255)
    return tuple(mean.tolist()), tuple(std.tolist())


def crop_and_flip(
    images: torch.Tensor,
    top: torch.Tensor,
    left: torch.Tensor,
    flip: torch.Tensor,
    padding: int,
) -> torch.Tensor:
    """Crop each image `(N, C, H, W)`, padded with zeros, and mirror it where `flip` is true.

    `top` and `left` `(N,)`, from 0 to `2 * padding`, are the crop's corner in the padded image;
    `flip` `(N,)` is boolean.
    """
    n, channels, height, width = images.shape
    padded = F.pad(images, (padding,) * 4).flatten(2)
    down = torch.arange(height, device=images.device)
    right = torch.arange(width, device=images.device)
    rows = top[:, None] + down  # (N, H)
    columns = left[:, None] + torch.where(flip[:, None], width - 1 - right, right)  # (N, W)
    pixels = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]  # (N, H, W)
    picked = padded.gather(2, pixels.view(n, 1, -1).expand(-1, channels, -1))
    return picked.view_as(images)


class Normalise:
    """Scales uint8 images to 0..1, subtracts `mean` and divides by `std` per channel.

    Performs the operations of torchvision's ToTensor and Normalize, in the same order.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self.mean = torch.tensor(mean, device=device).view(-1, 1, 1)
        self.std = torch.tensor(std, device=device).view(-1, 1, 1)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().div_(255).sub_(self.mean).div_(self.std)


class TrainImages(SpanLoader):
    """Shuffled, augmented batches; all random numbers of an epoch are drawn at its start.

    Those of a sample depend only on the seed, the epoch and the position in it, so that neither the
    world size nor resuming changes which image is shown when, or its augmentation.
    """

    def __init__(
        self,
        data: ImageSet,
        normalise: Transform,
        augmentation: Augmentation,
        spans: Sequence[Span],
        seed: int,
    ) -> None:
        super().__init__(len(data), spans)
        self.data, self.normalise, self.augmentation = data, normalise, augmentation
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        rng = epoch_generator(self.seed, epoch)
        order = rng.permutation(self.num_samples)
        corner = rng.integers(0, 2 * self.augmentation.padding + 1, (2, self.num_samples))
        flip = rng.integers(0, 2, self.num_samples) * self.augmentation.flip
        draws = torch.from_numpy(np.stack([order, *corner, flip]))
        self.draws = draws.to(self.data.images.device)  # (4, num_samples)

    def checksum(self) -> str:
        return self.data.checksum()

    def load(self, start: int, stop: int) -> Batch:
        rows, top, left, flip = self.draws[:, start:stop]
        images = self.data.images[rows]
        images = crop_and_flip(images, top, left, flip.bool(), self.augmentation.padding)
        return self.normalise(images), self.data.labels[rows]


class TestImages(SpanLoader):
    """The images in order, normalised."""

    __test__ = False  # not a test for pytest to collect

    def __init__(self, data: ImageSet, normalise: Transform, spans: Sequence[Span]) -> None:
        super().__init__(len(data), spans)
        self.data, self.normalise = data, normalise

    def checksum(self) -> str:
        return self.data.checksum()

    def load(self, start: int, stop: int) -> Batch:
        return self.normalise(self.data.images[start:stop]), self.data.labels[start:stop]


def build_loaders(
    train: ImageSet,
    test: ImageSet,
    normalise: Transform,
    augmentation: Augmentation,
    batching: Batching,
    rank: int = 0,
    size: int = 1,
) -> Loaders:
    """Return the loaders of `rank` of `size`; validation images are normalised as test images.

    Raises UserError for a split of the training images that leaves one part empty.
    """
    test_loader = _test_loader(test, normalise, batching, rank, size)
    validation = None
    if batching.val_split:
        kept, held = hold_out(train.labels.tolist(), batching.val_split, batching.seed)
        validation = _test_loader(train[held], normalise, batching, rank, size)
        train = train[kept]
    spans = train_spans(len(train), batching.train_batch, rank, size, batching.sync_bn)
    train_loader = TrainImages(train, normalise, augmentation, spans, batching.seed)
    return Loaders(train_loader, test_loader, validation)


def _test_loader(
    data: ImageSet, normalise: Transform, batching: Batching, rank: int, size: int
) -> TestImages:
    return TestImages(data, normalise, test_spans(len(data), batching.test_batch, rank, size))
