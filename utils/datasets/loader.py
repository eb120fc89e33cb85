"""The interface of data loaders: the batches of an epoch, and the time spent waiting for them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

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
    all ranks.
    """

    train_batch: int
    test_batch: int
    workers: int
    sync_bn: bool
    seed: int


@dataclass(frozen=True)
class Data:
    """A data set ready for training: its loaders, its classes and a line that describes it."""

    name: str
    train: Loader
    test: Loader
    num_classes: int
    in_channels: int
    classes: tuple[str, ...] | None
    description: str
