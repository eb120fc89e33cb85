"""Batches of an ImageNet folder (train/<class>/, val/<class>/), decoded by loader processes."""

from __future__ import annotations

import multiprocessing
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from imagenet.transforms import Transform, test_transform, train_transform
from utils.datasets.image_folder import Sample, list_folder, open_rgb
from utils.datasets.image_tensors import Normalise
from utils.datasets.loader import Batch, Data, Loader
from utils.datasets.loader_workers import killed_worker_error, lost_worker_error
from utils.datasets.sharding import Span, epoch_generator, test_spans, train_spans
from utils.distributed.world import World
from utils.system.errors import UserError
from utils.system.random_state import drawing_from
from utils.system.signals import ignore_group_signals
from utils.system.text import print_line

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Key = tuple[int, int]  # epoch, row among the samples


class Decoded(NamedTuple):
    """An image `(3, H, W)` in uint8 with its label, and what was wrong with any tried before."""

    image: Tensor | None
    label: int
    faults: list[str]


class Collated(NamedTuple):
    """Images `(N, 3, H, W)` in uint8, labels `(N,)`, and the faults met on the way."""

    images: Tensor
    labels: Tensor
    faults: list[str]


class Images(Dataset):
    """The samples of a folder, each decoded and transformed for the epoch it is asked for.

    What is random about an image is a function of (seed, epoch, row). An unreadable image is a
    fault; the next readable one takes its place, if there is a `substitute` wanted.
    """

    def __init__(
        self, samples: Sequence[Sample], transform: Transform, seed: int, substitute: bool
    ) -> None:
        # Arrays of bytes: a list's reference counts would copy its pages into every worker.
        self.files = np.array([os.fsencode(file) for file, _ in samples])
        self.labels = np.array([label for _, label in samples])
        self.transform, self.seed, self.substitute = transform, seed, substitute

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: Key) -> Decoded:
        epoch, row = key
        faults: list[str] = []
        for step in range(len(self) if self.substitute else 1):
            current = (row + step) % len(self)
            try:
                image = open_rgb(os.fsdecode(self.files[current]), "--data")
            except UserError as error:
                faults.append(str(error))
                continue
            with drawing_from(self.seed, epoch, row):
                pixels = np.array(self.transform(image))  # (H, W, 3)
            return Decoded(
                torch.from_numpy(pixels).permute(2, 0, 1), int(self.labels[current]), faults
            )
        return Decoded(None, 0, faults)


def collate(items: Sequence[Decoded]) -> Collated:
    """Stack the images that could be decoded."""
    decoded = [item for item in items if item.image is not None]
    return Collated(
        torch.stack([item.image for item in decoded]) if decoded else torch.empty(0),
        torch.tensor([item.label for item in decoded], dtype=torch.int64),
        [fault for item in items for fault in item.faults],
    )


class Keys:
    """The keys of each batch of the epoch chosen from `first` on; `order` gives an epoch's rows."""

    def __init__(self, spans: Sequence[Span], order: Callable[[int], np.ndarray]) -> None:
        self.spans, self.order, self.epoch, self.first = spans, order, 0, 0

    def __len__(self) -> int:
        return len(self.spans)

    def __iter__(self) -> Iterator[list[Key]]:
        rows = self.order(self.epoch)
        for start, stop in self.spans[self.first :]:
            yield [(self.epoch, row) for row in rows[start:stop].tolist()]


class FolderLoader(Loader):
    """Batches of `images` on the device, decoded ahead by `workers` processes (0: by this one).

    The first unreadable image ends the run with a UserError, unless `skip` is set: then each is
    named once, and `skipped` holds them.
    """

    def __init__(
        self, images: Images, keys: Keys, world: World, workers: int = 0, skip: bool = False
    ) -> None:
        super().__init__(len(images), keys.spans)
        self.keys, self.device, self.skip = keys, world.device, skip
        self.skipped: set[str] = set()
        self.normalise = Normalise(MEAN, STD, world.device)
        self.loader = DataLoader(
            images,
            batch_sampler=keys,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=world.device.type == "cuda",
            persistent_workers=workers > 0,
            worker_init_fn=ignore_group_signals,
            generator=torch.Generator(),  # or each epoch would draw from the process's own
        )

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.keys.epoch, self.keys.first = epoch, 0

    def begin_at(self, batch: int) -> None:
        super().begin_at(batch)
        self.keys.first = batch

    def batches(self) -> Iterable[Batch]:
        for images, labels, faults in self._collated():
            self._report(faults)
            if len(labels):
                images = images.to(self.device, non_blocking=True)
                yield self.normalise(images), labels.to(self.device, non_blocking=True)

    def _collated(self) -> Iterator[Collated]:
        processes = []
        try:
            batches = iter(self.loader)
            processes += multiprocessing.active_children()
            yield from batches
        except (ConnectionError, EOFError) as error:  # a process was reached no more
            raise lost_worker_error(processes, self.loader.num_workers) from error
        except RuntimeError as error:
            if fault := killed_worker_error(error, self.loader.num_workers):
                raise fault from error
            raise

    def _report(self, faults: Sequence[str]) -> None:
        for fault in faults:
            if not self.skip:
                raise UserError(f"{fault}, or pass --skip_bad_images")
            if fault not in self.skipped:
                self.skipped.add(fault)
                print_line(f"skipping an image: {fault}", sys.stderr)


def build_data(args: Namespace, world: World) -> Data:
    """Return the training and the validation images in `--data` as this process's loaders.

    Raises UserError for a folder that is none, and for more processes than images in a batch.
    """
    train, val, classes = list_folder(args.data, "--data", ("val",))
    least = min(args.batch_size, len(train))
    if not args.evaluate and least < 2 * world.size:  # the last BatchNorm has one value an image
        raise UserError(f"--batch-size: {least} images for {world.size} processes, two at least")
    return Data(
        name="imagenet",
        train=_train_loader(args, world, train),
        test=_test_loader(args, world, val),
        num_classes=len(classes),
        in_channels=3,
        classes=classes,
        description=(
            f"{args.data}, {len(train):,} training and {len(val):,} validation images of "
            f"{len(classes)} classes, {args.image_size}x{args.image_size}"
        ),
    )


def build_calibration(args: Namespace, world: World) -> tuple[FolderLoader, int]:
    """Return the first `--calib_batches` batches of `--calib_split`, and the number of classes.

    Those of `train` are a random sample drawn from the seed, transformed as for a test.
    """
    train, val, classes = list_folder(args.data, "--data", ("val",))
    shuffled = args.calib_split == "train"
    samples = train if shuffled else val
    return _test_loader(args, world, samples, shuffled, args.calib_batches), len(classes)


def _train_loader(args: Namespace, world: World, samples: Sequence[Sample]) -> FolderLoader:
    transform = train_transform(args.image_size, args.min_crop, flip=not args.no_flip)
    images = Images(samples, transform, args.manualSeed, args.skip_bad_images)
    spans = train_spans(len(samples), args.batch_size, world.rank, world.size, args.sync_bn)
    keys = Keys(spans, _shuffle(len(samples), args.manualSeed))
    return FolderLoader(images, keys, world, args.workers, args.skip_bad_images)


def _test_loader(
    args: Namespace,
    world: World,
    samples: Sequence[Sample],
    shuffled: bool = False,
    most: int | None = None,
) -> FolderLoader:
    images = Images(samples, test_transform(args.image_size), args.manualSeed, substitute=False)
    spans = test_spans(len(samples), args.batch_size, world.rank, world.size)[:most]
    order = _shuffle(len(samples), args.manualSeed) if shuffled else _in_order(len(samples))
    return FolderLoader(images, Keys(spans, order), world, args.workers, args.skip_bad_images)


def _shuffle(length: int, seed: int) -> Callable[[int], np.ndarray]:
    return lambda epoch: epoch_generator(seed, epoch).permutation(length)


def _in_order(length: int) -> Callable[[int], np.ndarray]:
    return lambda epoch: np.arange(length)
