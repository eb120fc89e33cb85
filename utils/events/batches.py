"""Training batches of event frames, from collections of recordings."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from utils.datasets.image_tensors import Augmentation, ImageSet, build_loaders
from utils.datasets.loader import Batching, Data
from utils.events.cifar10_dvs import CIFAR10DVS
from utils.events.collection import Collection, Sample, prepare, read_sample
from utils.events.dvs_gesture import DVS128Gesture
from utils.events.frame_cache import FrameKind
from utils.events.saccades import NMNIST, NCaltech101
from utils.system.progress_counter import count_progress

if TYPE_CHECKING:
    from utils.distributed.world import World

_ALL = (CIFAR10DVS(), DVS128Gesture(), NMNIST(), NCaltech101())
COLLECTIONS: dict[str, Collection] = {collection.name: collection for collection in _ALL}
_MAX_BYTE = 255


def input_shape(name: str, timesteps: int) -> tuple[int, int, int, int]:
    """Return the shape `(T, 2, H, W)` of a sample of the collection `name`."""
    size = COLLECTIONS[name].size
    return timesteps, 2, size, size


def build(name: str, path: str, timesteps: int, batching: Batching, world: World) -> Data:
    """Return the collection `name` below `path` as loaders, with a line that describes it.

    The loaders yield frames `(N, T, 2, H, W)` float32 and labels `(N,)` int64 on the device.
    Raises UserError where the data are missing, cannot be fetched, or are damaged.
    """
    collection = COLLECTIONS[name]
    train, test = _halves(collection, Path(path), timesteps, batching.workers, world)
    crop = Augmentation(collection.padding, flip=False)
    loaders = build_loaders(train, test, Steps(timesteps), crop, batching, world.rank, world.size)
    classes = collection.classes(Path(path))
    size = collection.size
    return Data(
        name=name,
        loaders=loaders,
        num_classes=len(classes),
        in_channels=2,
        classes=classes,
        description=(
            f"{name}: {loaders.counts('recordings')} as frames"
            f" {timesteps}x2x{size}x{size}, {len(classes)} classes, training with"
            f" random crop {crop.padding}"
        ),
    )


class Steps:
    """Turns frames `(N, 2 T, H, W)` of any type into `(N, T, 2, H, W)` float32."""

    def __init__(self, timesteps: int) -> None:
        self.timesteps = timesteps

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        return frames.float().unflatten(1, (self.timesteps, 2))


def _halves(
    collection: Collection, root: Path, timesteps: int, workers: int, world: World
) -> tuple[ImageSet, ImageSet]:
    """Return the training and the test set on the device; rank 0 prepares the files."""
    kind = collection.kind(timesteps)
    world.run_on_main_first(lambda: prepare(collection, root, kind, workers))
    train, test = collection.split(collection.samples(root, kind))
    size, quiet = collection.size, not world.is_main
    both = load(train + test, kind, size, workers, world.device, quiet)
    sizes = len(train), len(test)
    return tuple(map(ImageSet, both.images.split(sizes), both.labels.split(sizes)))


def load(
    samples: Sequence[Sample],
    kind: FrameKind,
    size: int,
    workers: int,
    device: torch.device | str = "cpu",
    quiet: bool = False,
) -> ImageSet:
    """Return the samples on `device`: frames `(N, 2 T, size, size)`, and labels.

    Resized frames are float32. Frames that have this size already are counts, held in bytes unless
    one of them is above 255. `workers` threads read. Raises UserError as `read_sample` does.
    """
    shape = (len(samples), 2 * kind.timesteps, size, size)
    dtype = torch.uint8 if kind.shape[-2:] == (size, size) else torch.float32
    frames = torch.empty(shape, dtype=dtype, device=device)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        read = pool.map(lambda sample: _fitted(read_sample(sample, kind), size), samples)
        for row, fitted in enumerate(count_progress(read, "Loading", len(samples), quiet)):
            if fitted.dtype != torch.uint8 and frames.dtype == torch.uint8:
                frames = frames.float()
            frames[row] = fitted.flatten(0, 1)
    return ImageSet(frames, torch.tensor([sample.label for sample in samples], device=device))


def _fitted(frames: np.ndarray, size: int) -> torch.Tensor:
    """Return frames `(T, 2, H, W)` as `(T, 2, size, size)`: float32, or uint8 if that is exact."""
    if frames.shape[-2:] != (size, size):
        return resize(frames, size)
    exact = frames.dtype.kind == "u" and frames.max() <= _MAX_BYTE
    return torch.from_numpy(frames.astype(np.uint8 if exact else np.float32))


def resize(frames: np.ndarray, size: int = CIFAR10DVS.size) -> torch.Tensor:
    """Return frames `(T, 2, H, W)` as `(T, 2, size, size)` float32.

    Bilinear without antialiasing, as in the published results.
    """
    values = torch.from_numpy(frames.astype(np.float32))
    return F.interpolate(values, size=(size, size), mode="bilinear", align_corners=False)
