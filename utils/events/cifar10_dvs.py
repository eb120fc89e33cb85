"""CIFAR10-DVS: from its ten archives, or recordings already there, to training batches.

H. Li et al., CIFAR10-DVS: an event-stream dataset for object classification, Front. Neurosci. 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from utils.datasets.image_tensors import Augmentation, ImageSet, build_loaders
from utils.datasets.loader import Batching, Loaders
from utils.events.collection import CLASSES, Sample, list_samples, prepare, read_sample, split
from utils.events.frame_cache import FrameKind
from utils.system.progress_counter import count_progress

if TYPE_CHECKING:
    from utils.distributed.world import World

INPUT_SIZE = 48  # pixels along each side of a training frame


def build(path: str, timesteps: int, batching: Batching, world: World) -> tuple[Loaders, int, str]:
    """Return the loaders, the number of classes and a line that describes the data.

    The loaders yield frames `(N, T, 2, 48, 48)` float32 and labels `(N,)` int64 on the device.
    Raises UserError where the data are missing, cannot be fetched, or are damaged.
    """
    train, test = _halves(Path(path), timesteps, batching.workers, world)
    by_step = nn.Unflatten(1, (timesteps, 2))
    crop = Augmentation(padding=4, flip=False)
    loaders = build_loaders(train, test, by_step, crop, batching, world.rank, world.size)
    description = (
        f"CIFAR10DVS: {loaders.counts('recordings')} as frames"
        f" {timesteps}x2x{INPUT_SIZE}x{INPUT_SIZE}, {len(CLASSES)} classes, training with"
        f" random crop {crop.padding}"
    )
    return loaders, len(CLASSES), description


def _halves(root: Path, timesteps: int, workers: int, world: World) -> tuple[ImageSet, ImageSet]:
    """Return the training and the test set on the device; rank 0 prepares the files."""
    kind = FrameKind(timesteps)
    world.run_on_main_first(lambda: prepare(root, kind, workers))
    train, test = split(list_samples(root, kind))
    both = load(train + test, kind, workers, world.device, quiet=not world.is_main)
    sizes = len(train), len(test)
    return tuple(map(ImageSet, both.images.split(sizes), both.labels.split(sizes)))


def load(
    samples: Sequence[Sample],
    kind: FrameKind,
    workers: int,
    device: torch.device | str = "cpu",
    quiet: bool = False,
) -> ImageSet:
    """Return the samples on `device`: resized frames `(N, 2 T, 48, 48)` float32, and labels.

    `workers` threads read. Raises UserError as `read_sample` does.
    """
    shape = (len(samples), 2 * kind.timesteps, INPUT_SIZE, INPUT_SIZE)
    frames = torch.empty(shape, device=device)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        read = pool.map(lambda sample: resize(read_sample(sample, kind)), samples)
        for row, resized in enumerate(count_progress(read, "Loading", len(samples), quiet)):
            frames[row] = resized.flatten(0, 1)
    return ImageSet(frames, torch.tensor([sample.label for sample in samples], device=device))


def resize(frames: np.ndarray) -> torch.Tensor:
    """Return frames `(T, 2, 128, 128)` as `(T, 2, 48, 48)` float32.

    Bilinear without antialiasing, as in the published results.
    """
    size = (INPUT_SIZE, INPUT_SIZE)
    values = torch.from_numpy(frames.astype(np.float32))
    return F.interpolate(values, size=size, mode="bilinear", align_corners=False)
