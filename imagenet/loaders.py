"""Batches of an ImageNet folder (train/<class>/, val/<class>/), decoded by loader processes."""

from __future__ import annotations

import multiprocessing
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader

from imagenet.datasets import BatchKeys, Collated, Images, collate
from imagenet.transforms import test_transform, train_transform
from utils.datasets.image_folder import Sample, list_folder
from utils.datasets.image_tensors import Normalise
from utils.datasets.loader import Batch, Batching, Data, Loader, Loaders
from utils.datasets.loader_workers import killed_worker_error, lost_worker_error
from utils.datasets.sharding import epoch_generator, test_spans, train_spans
from utils.datasets.validation_split import hold_out
from utils.distributed.world import World
from utils.system.errors import UserError
from utils.system.signals import ignore_group_signals
from utils.system.text import print_line

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FolderLoader(Loader):
    """Batches of `images` on the device, decoded ahead by `workers` processes (0: by this one).

    The first unreadable image ends the run with a UserError; with `skip`, each is printed once and
    kept in `skipped`.
    """

    def __init__(
        self, images: Images, keys: BatchKeys, world: World, workers: int = 0, skip: bool = False
    ) -> None:
        super().__init__(len(images), keys.spans)
        self.images, self.keys, self.device, self.skip = images, keys, world.device, skip
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
            generator=torch.Generator(),  # else each epoch draws from the global generator
        )

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.keys.epoch, self.keys.first = epoch, 0

    def begin_at(self, batch: int) -> None:
        super().begin_at(batch)
        self.keys.first = batch

    def batches(self) -> Iterable[Batch]:
        for images, labels, errors in self._collated():
            self._report(errors)
            if len(labels):
                images = images.to(self.device, non_blocking=True)
                yield self.normalise(images), labels.to(self.device, non_blocking=True)

    def checksum(self) -> str:
        return self.images.checksum()

    def _collated(self) -> Iterator[Collated]:
        processes = []
        try:
            batches = iter(self.loader)
            processes += multiprocessing.active_children()
            yield from batches
        except (ConnectionError, EOFError) as error:  # the pipe of a process is closed
            raise lost_worker_error(processes, self.loader.num_workers) from error
        except RuntimeError as error:
            if fault := killed_worker_error(error, self.loader.num_workers):
                raise fault from error
            raise

    def _report(self, errors: Sequence[str]) -> None:
        for error in errors:
            if not self.skip:
                raise UserError(f"{error}, or pass --skip_bad_images")
            if error not in self.skipped:
                self.skipped.add(error)
                print_line(f"skipping an image: {error}", sys.stderr)


def build_data(args: Namespace, batching: Batching, world: World) -> Data:
    """Return the images of train/ and of val/, on which is tested, as the loaders of this rank.

    Read from `args`: data, image_size, min_crop, no_flip, skip_bad_images and evaluate. Raises
    UserError where `--data` is not such a folder, and for too many processes for a batch.
    """
    train, test, classes = list_folder(args.data, "--data", ("val",))
    held = []
    if batching.val_split:
        labels = [label for _, label in train]
        rows = hold_out(labels, batching.val_split, batching.seed)
        train, held = ([train[row] for row in part] for part in rows)
    least = min(batching.train_batch, len(train))
    if not args.evaluate and least < 2 * world.size:  # the last BatchNorm has one value per image
        raise UserError(
            f"--batch-size: {least} images for {world.size} processes, which need two at least each"
        )
    loaders = Loaders(
        _train_loader(args, batching, world, train),
        _test_loader(args, batching, world, test),
        _test_loader(args, batching, world, held) if held else None,
    )
    return Data(
        name="imagenet",
        loaders=loaders,
        num_classes=len(classes),
        in_channels=3,
        classes=classes,
        description=(
            f"{args.data}, {_counts(loaders)} of {len(classes)} classes, "
            f"{args.image_size}x{args.image_size}"
        ),
    )


def build_calibration(
    args: Namespace, batching: Batching, world: World
) -> tuple[FolderLoader, int]:
    """Return the first `--calib_batches` batches of `--calib_split`, and the number of classes.

    Those of `train` are a random sample drawn from the seed, transformed as for a test.
    """
    train, val, classes = list_folder(args.data, "--data", ("val",))
    shuffled = args.calib_split == "train"
    samples = train if shuffled else val
    loader = _test_loader(args, batching, world, samples, shuffled, args.calib_batches)
    return loader, len(classes)


def _train_loader(
    args: Namespace, batching: Batching, world: World, samples: Sequence[Sample]
) -> FolderLoader:
    transform = train_transform(args.image_size, args.min_crop, flip=not args.no_flip)
    images = Images(samples, transform, batching.seed, args.skip_bad_images)
    spans = train_spans(
        len(samples), batching.train_batch, world.rank, world.size, batching.sync_bn
    )
    keys = BatchKeys(spans, _shuffle(len(samples), batching.seed))
    return FolderLoader(images, keys, world, batching.workers, args.skip_bad_images)


def _test_loader(
    args: Namespace,
    batching: Batching,
    world: World,
    samples: Sequence[Sample],
    shuffled: bool = False,
    limit: int | None = None,
) -> FolderLoader:
    images = Images(samples, test_transform(args.image_size), batching.seed, substitute=False)
    spans = test_spans(len(samples), batching.test_batch, world.rank, world.size)[:limit]
    order = _shuffle(len(samples), batching.seed) if shuffled else _in_order(len(samples))
    keys = BatchKeys(spans, order)
    return FolderLoader(images, keys, world, batching.workers, args.skip_bad_images)


def _counts(loaders: Loaders) -> str:
    """Return the number of images; those of val/ are called test images beside held-out ones."""
    if loaders.validation is not None:
        return loaders.counts()
    train, test = loaders.train.num_samples, loaders.test.num_samples
    return f"{train:,} training and {test:,} validation images"


def _shuffle(length: int, seed: int) -> Callable[[int], np.ndarray]:
    return lambda epoch: epoch_generator(seed, epoch).permutation(length)


def _in_order(length: int) -> Callable[[int], np.ndarray]:
    return lambda epoch: np.arange(length)
