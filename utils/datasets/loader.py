"""The interface of data loaders: the batches of an epoch, and the time spent waiting for them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from utils.datasets.sharding import Span

Batch = tuple[torch.Tensor, torch.Tensor]


class Loader(ABC):
    """Iterates over `(inputs, labels)` of one epoch on the training device.

    `num_samples` is the number of samples of the whole set, `len()` the number of batches of this
    rank, and `waited` the seconds for which the consumer has waited since `set_epoch`.
    """

    def __init__(self, num_samples: int, spans: Sequence[Span]) -> None:
        self.num_samples = num_samples
        self.spans = spans
        self.first = 0
        self.waited = 0.0

    def __len__(self) -> int:
        return len(self.spans)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch (from 0) of the next iteration."""
        self.first, self.waited = 0, 0.0

    def begin_at(self, batch: int) -> None:
        """Skip the batches of this epoch before number `batch`."""
        self.first = batch

    def __iter__(self) -> Iterator[Batch]:
        batches = iter(self.batches())
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - asked
            if batch is None:
                return
            yield batch

    @abstractmethod
    def batches(self) -> Iterable[Batch]:
        """Return the batches of the current epoch, from `first` on."""

    @abstractmethod
    def checksum(self) -> str:
        """Return the SHA-256 sum of the samples, in hexadecimal."""


class SpanLoader(Loader):
    """A loader that makes each batch from a span of positions."""

    def batches(self) -> Iterable[Batch]:
        return (self.load(start, stop) for start, stop in self.spans[self.first :])

    @abstractmethod
    def load(self, start: int, stop: int) -> Batch:
        """Return the samples at positions `start` to `stop` (exclusive) in the epoch's order."""


@dataclass(frozen=True)
class Batching:
    """How a data set is batched: the batch sizes over all ranks, and the seed of the order.

    This rank loads with `workers` processes; `sync_bn` tells that BatchNorm statistics are over
    all ranks; a share `val_split` of the training data is held out for validation.
    """

    train_batch: int
    test_batch: int
    workers: int
    sync_bn: bool
    seed: int
    val_split: float = 0.0


class Loaders(NamedTuple):
    """The loaders of one rank; `validation` is None where no training data are held out."""

    train: Loader
    test: Loader
    validation: Loader | None = None

    def counts(self, samples: str = "images") -> str:
        """Return the number of `samples` in each part, as a description of the data names them."""
        if self.validation is None:
            return (
                f"{self.train.num_samples:,} training and {self.test.num_samples:,} test {samples}"
            )
        return (
            f"{self.train.num_samples:,} training, {self.validation.num_samples:,} validation "
            f"(held out) and {self.test.num_samples:,} test {samples}"
        )


@dataclass(frozen=True)
class Data:
    """A data set ready for training: its loaders, its classes and a line that describes it."""

    name: str
    loaders: Loaders
    num_classes: int
    in_channels: int
    classes: tuple[str, ...] | None
    description: str

    @property
    def train(self) -> Loader:
        return self.loaders.train

    @property
    def test(self) -> Loader:
        return self.loaders.test

    @property
    def validation(self) -> Loader | None:
        return self.loaders.validation

    @property
    def selection(self) -> Loader:
        """The data that each epoch is scored on, and the best checkpoint is chosen by."""
        return self.test if self.validation is None else self.validation

    @property
    def selection_name(self) -> str:
        """How logs name these data: "test" or "validation"."""
        return "test" if self.validation is None else "validation"
