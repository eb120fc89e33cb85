"""The data sets of the CIFAR scripts, by their names for `--dataset`."""

from __future__ import annotations

import difflib
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from utils.datasets.digits import CLASSES as DIGITS
from utils.datasets.digits import FILE, digit_images
from utils.datasets.image_folder import load_folder
from utils.datasets.image_tensors import (
    Augmentation,
    ImageSet,
    Normalise,
    Statistics,
    build_loaders,
    channel_statistics,
)
from utils.datasets.loader import Batching, Data, Loaders
from utils.events import batches as event_frames
from utils.system.errors import UserError

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

    from utils.distributed.world import World


@dataclass(frozen=True)
class Images:
    """A labelled image data set before it is batched."""

    train: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    statistics: Statistics
    augmentation: Augmentation


def build_data(args: Namespace, batching: Batching, world: World) -> Data:
    """Return the data set `--dataset`, read from `--path`, as the loaders of this rank.

    Read from `args`: dataset, path, mean and std (None: the data set's own), and for event
    recordings timesteps. Raises UserError for an unknown name, for missing or damaged data, and for
    more processes than samples in a batch or in the training set.
    """
    if args.dataset not in _DATASETS:
        raise UserError(_unknown(args.dataset))
    if batching.train_batch < world.size:
        raise UserError(
            f"--train-batch {batching.train_batch}: too small for {world.size} processes, which "
            "need at least one sample each"
        )
    data = _DATASETS[args.dataset](args, batching, world)
    if data.train.num_samples < world.size:
        raise UserError(
            f"--path {args.path}: {data.train.num_samples} training samples for {world.size}"
            " processes; start fewer"
        )
    return data


def known_datasets() -> list[str]:
    """Return the names that `--dataset` takes."""
    return list(_DATASETS)


def sample_shape(dataset: str, timesteps: int) -> tuple[int, ...]:
    """Return the shape of an image or of frames; raises `UserError` for an unknown name."""
    if dataset not in _DATASETS:
        raise UserError(_unknown(dataset))
    if dataset in event_frames.COLLECTIONS:
        return event_frames.input_shape(dataset, timesteps)
    return (3, 32, 32)


def _unknown(name: str) -> str:
    lower = {known.lower(): known for known in _DATASETS}
    nearest = difflib.get_close_matches(name.lower(), lower, n=1)
    hint = f"; did you mean {lower[nearest[0]]}?" if nearest else ""
    return f"--dataset {name}: unknown, choose one of {', '.join(_DATASETS)}{hint}"


def _cifar10(args: Namespace, batching: Batching, world: World) -> Data:
    from torchvision.datasets import CIFAR10

    statistics = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    return _batched(_torchvision_images(CIFAR10, statistics, args, world), args, batching, world)


def _cifar100(args: Namespace, batching: Batching, world: World) -> Data:
    from torchvision.datasets import CIFAR100

    statistics = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
    return _batched(_torchvision_images(CIFAR100, statistics, args, world), args, batching, world)


def _digits(args: Namespace, batching: Batching, world: World) -> Data:
    if "path" in args.given and not (Path(args.path) / FILE).is_file():
        world.print_main(f"note: --path {args.path}: has no {FILE}; using the embedded digits")
    train, test = digit_images(args.path)
    statistics = channel_statistics(train.images)
    # Digits are not symmetric and fill the frame: no flip, small shifts.
    augmentation = Augmentation(padding=2, flip=False)
    images = Images(train, test, DIGITS, statistics, augmentation)
    return _batched(images, args, batching, world)


def _folder(args: Namespace, batching: Batching, world: World) -> Data:
    train, test, classes = load_folder(args.path, workers=batching.workers, quiet=not world.is_main)
    images = Images(train, test, classes, channel_statistics(train.images), Augmentation())
    return _batched(images, args, batching, world)


def _event_frames(args: Namespace, batching: Batching, world: World) -> Data:
    return event_frames.build(args.dataset, args.path, args.timesteps, batching, world)


_DATASETS: dict[str, Callable[[Namespace, Batching, World], Data]] = {
    "cifar10": _cifar10,
    "cifar100": _cifar100,
    "digits": _digits,
    "folder": _folder,
    **dict.fromkeys(event_frames.COLLECTIONS, _event_frames),
}


def _torchvision_images(
    dataset_class: type[CIFAR10], statistics: Statistics, args: Namespace, world: World
) -> Images:
    """Read both halves of a torchvision CIFAR class; rank 0 downloads what is missing."""
    world.run_on_main_first(lambda: _download(dataset_class, args.path))
    try:
        train, test = (dataset_class(args.path, train=half) for half in (True, False))
    except (OSError, RuntimeError, EOFError) as error:
        raise UserError(
            f"--path {args.path}: process {world.rank} finds no data where process 0 did; "
            "give a folder that all nodes share"
        ) from error
    return Images(_bytes(train), _bytes(test), tuple(train.classes), statistics, Augmentation())


def _download(dataset_class: type[CIFAR10], path: str) -> None:
    """Download the data to `path` unless they are there; torchvision checks their md5 sums."""
    try:
        dataset_class(path, download=True)
    except (OSError, RuntimeError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"--path {path}: no {dataset_class.__name__} here, and its download failed ({reason});"
            f" put {dataset_class.filename} or its unpacked {dataset_class.base_folder}/ there"
        ) from error


def _bytes(dataset: CIFAR10) -> ImageSet:
    """Return a torchvision CIFAR data set `(N, H, W, C)` as an image set `(N, C, H, W)`."""
    images = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()
    return ImageSet(images, torch.tensor(dataset.targets))


def _batched(images: Images, args: Namespace, batching: Batching, world: World) -> Data:
    """Move the images to the device and return loaders of them."""
    mean, std = images.statistics
    mean, std = tuple(args.mean or mean), tuple(args.std or std)
    normalise = Normalise(mean, std, world.device)
    train, test = images.train.to(world.device), images.test.to(world.device)
    loaders = build_loaders(
        train, test, normalise, images.augmentation, batching, world.rank, world.size
    )
    return Data(
        name=args.dataset,
        loaders=loaders,
        num_classes=len(images.classes),
        in_channels=train.images.shape[1],
        classes=images.classes,
        description=_describe(args.dataset, images, loaders, mean, std),
    )


def _describe(
    name: str, images: Images, loaders: Loaders, mean: Sequence[float], std: Sequence[float]
) -> str:
    channels, height, width = images.train.images.shape[1:]
    augmentation = f"crop {images.augmentation.padding}" + ", flip" * images.augmentation.flip
    return (
        f"{name}, {loaders.counts()}"
        f" {channels}x{height}x{width}, {len(images.classes)} classes, mean {_short(mean)},"
        f" std {_short(std)}, training with random {augmentation}"
    )


def _short(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)
