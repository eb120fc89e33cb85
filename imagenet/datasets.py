"""The images of an ImageNet folder, by epoch and row: the file index, decoding, collating."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from imagenet.transforms import Transform
from utils.datasets.image_folder import Sample, open_rgb
from utils.datasets.sharding import Span
from utils.system.errors import UserError
from utils.system.random_state import drawing_from

Key = tuple[int, int]  # epoch, row among the samples


class Decoded(NamedTuple):
    """An image `(3, H, W)` in uint8 with its label, and errors of images it replaces."""

    image: Tensor | None
    label: int
    errors: list[str]


class Collated(NamedTuple):
    """Images `(N, 3, H, W)` in uint8, labels `(N,)`, and the errors of unreadable images."""

    images: Tensor
    labels: Tensor
    errors: list[str]


class Images(Dataset):
    """The samples of a folder, decoded and transformed by epoch and row.

    Random transforms are a function of (seed, epoch, row). With `substitute` the next readable
    image takes the place of an unreadable one.
    """

    def __init__(
        self, samples: Sequence[Sample], transform: Transform, seed: int, substitute: bool
    ) -> None:
        # Arrays, since updating the reference counts of a list copies its pages into every worker.
        self.files = np.array([os.fsencode(file) for file, _ in samples])
        self.labels = np.array([label for _, label in samples])
        self.transform, self.seed, self.substitute = transform, seed, substitute

    def __len__(self) -> int:
        return len(self.labels)

    def checksum(self) -> str:
        """Return the SHA-256 sum of the classes, names, sizes and labels of the files."""
        digest = hashlib.sha256()
        for name, label in zip(self.files, self.labels, strict=True):
            path = os.fsdecode(name).split(os.sep)
            size = os.path.getsize(name)
            digest.update(f"{path[-2:]} {size} {label}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def __getitem__(self, key: Key) -> Decoded:
        epoch, row = key
        errors: list[str] = []
        for step in range(len(self) if self.substitute else 1):
            current = (row + step) % len(self)
            try:
                image = open_rgb(os.fsdecode(self.files[current]), "--data")
            except UserError as error:
                errors.append(str(error))
                continue
            with drawing_from(self.seed, epoch, row):
                pixels = np.array(self.transform(image))  # (H, W, 3)
            return Decoded(
                torch.from_numpy(pixels).permute(2, 0, 1), int(self.labels[current]), errors
            )
        return Decoded(None, 0, errors)


def collate(items: Sequence[Decoded]) -> Collated:
    """Stack the images that could be decoded."""
    decoded = [item for item in items if item.image is not None]
    return Collated(
        torch.stack([item.image for item in decoded]) if decoded else torch.empty(0),
        torch.tensor([item.label for item in decoded], dtype=torch.int64),
        [fault for item in items for fault in item.errors],
    )


class BatchKeys:
    """The keys of each batch of `epoch`, from the batch `first` on.

    `order` returns the rows of an epoch in their order.
    """

    def __init__(self, spans: Sequence[Span], order: Callable[[int], np.ndarray]) -> None:
        self.spans, self.order, self.epoch, self.first = spans, order, 0, 0

    def __len__(self) -> int:
        return len(self.spans)

    def __iter__(self) -> Iterator[list[Key]]:
        rows = self.order(self.epoch)
        for start, stop in self.spans[self.first :]:
            yield [(self.epoch, row) for row in rows[start:stop].tolist()]
