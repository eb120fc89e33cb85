"""The loader every data set provides: batches of one epoch, and the time spent waiting for them."""

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

    `num_samples` counts the samples of the whole set, `len()` the batches of this process, and
    `waited` the seconds that the consumer has waited for batches since `set_epoch`.
    """

    def __init__(self, num_samples: int, spans: Sequence[Span]) -> None:
        self.num_samples = num_samples
        self.spans = spans
        self.first = 0
        self.waited = 0.0

    def __len__(self) -> int:
        return len(self.spans)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (from 0) that the next iteration runs over."""
        self.first, self.waited = 0, 0.0

    def begin_at(self, batch: int) -> None:
        """Leave out the batches of the epoch chosen that come before `batch`."""
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
        """Return the batches of the epoch chosen, from `first` on."""


class SpanLoader(Loader):
    """A loader that can make each batch by itself, from a span of positions."""

    def batches(self) -> Iterable[Batch]:
        return (self.load(start, stop) for start, stop in self.spans[self.first :])

    @abstractmethod
    def load(self, start: int, stop: int) -> Batch:
        """Return the samples at the positions `start` to `stop` of the epoch's order."""


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
    """A data set ready for training: its loaders, and what a model and a user need to know."""

    name: str
    train: Loader
    test: Loader
    num_classes: int
    in_channels: int
    classes: tuple[str, ...] | None
    description: str
