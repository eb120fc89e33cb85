"""CIFAR10-DVS: from its ten archives, or recordings already there, to training batches.

H. Li et al., CIFAR10-DVS: an event-stream dataset for object classification, Front. Neurosci. 2017.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from filelock import FileLock, Timeout
from torch import nn

from utils.dvs_archives import ARCHIVES, obtain
from utils.errors import UserError
from utils.frame_cache import DamagedFrames, FrameKind, convert_all, read_frames
from utils.images import Augmentation, ImageSet, TestImages, TrainImages
from utils.loader import Loader
from utils.order import test_spans, train_spans
from utils.tally import tally

if TYPE_CHECKING:
    from utils.distributed import World

CLASSES = tuple(ARCHIVES)
INPUT_SIZE = 48  # pixels along each side of a training frame
_FILE = re.compile(r"cifar10_(?P<name>[a-z]+)_(?P<number>\d+)\.(?:aedat4?|npz)")


@dataclass(frozen=True)
class Sample:
    """One recording: class index, number within its class, its file if there, its cache file."""

    label: int
    number: int
    events: Path | None
    frames: Path


def build(args: Namespace, world: World) -> tuple[Loader, Loader, int, str]:
    """Return training loader, test loader, number of classes and a line that describes the data.

    The loaders yield frames `(N, T, 2, 48, 48)` float32 and labels `(N,)` int64 on the device.
    Read from `args`: path, timesteps, workers, train_batch, test_batch, manualSeed. Raises
    UserError where the data are missing, cannot be fetched, or are damaged.
    """
    root, kind = Path(args.path), FrameKind(args.timesteps)
    if world.is_main:
        prepare(root, kind, args.workers)
    world.barrier()
    train_samples, test_samples = split(list_samples(root, kind))
    both = load(
        train_samples + test_samples, kind, args.workers, world.device, quiet=not world.is_main
    )
    cut = len(train_samples)
    train = ImageSet(both.images[:cut], both.labels[:cut])
    test = ImageSet(both.images[cut:], both.labels[cut:])
    by_step = nn.Unflatten(1, (args.timesteps, 2))
    spans = train_spans(len(train), args.train_batch, world.rank, world.size)
    crop = Augmentation(padding=4, flip=False)
    train_loader = TrainImages(train, by_step, crop, spans, args.manualSeed)
    spans = test_spans(len(test), args.test_batch, world.rank, world.size)
    return (
        train_loader,
        TestImages(test, by_step, spans),
        len(CLASSES),
        _describe(train, test, kind),
    )


def prepare(root: Path, kind: FrameKind, workers: int) -> None:
    """Fetch, extract and convert whatever is missing below `root`, one process at a time.

    A process that finds another one at work waits for it. Where nothing is missing, nothing is
    written, so `root` may be read-only.
    """
    if not (_missing_classes(root, kind) or _missing_frames(root, kind)):
        return
    with _locked(root):
        for name in _missing_classes(root, kind):
            obtain(name, root)
        convert_all(_missing_frames(root, kind), kind, workers)


def list_samples(root: Path, kind: FrameKind) -> list[Sample]:
    """Return the samples below `root` by class and number: recordings, and cached frames alone."""
    return [sample for label in range(len(CLASSES)) for sample in _class_samples(root, kind, label)]


def split(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Return the training and the test samples: of each class the first 90 % by number, the rest.

    Raises UserError where one of the two would be empty.
    """
    train, test = [], []
    for label in range(len(CLASSES)):
        members = sorted((s for s in samples if s.label == label), key=lambda s: s.number)
        cut = len(members) * 9 // 10
        train += members[:cut]
        test += members[cut:]
    if not train or not test:
        raise UserError(f"--path: {len(samples)} recordings are too few for a 90 % split by class")
    return train, test


def load(
    samples: Sequence[Sample],
    kind: FrameKind,
    workers: int,
    device: torch.device | str = "cpu",
    quiet: bool = False,
) -> ImageSet:
    """Return the samples on `device`: resized frames `(N, 2 T, 48, 48)` float32, and labels.

    `workers` threads read. Raises UserError as `sample_frames` does.
    """
    shape = (len(samples), 2 * kind.timesteps, INPUT_SIZE, INPUT_SIZE)
    frames = torch.empty(shape, device=device)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        resized = pool.map(lambda sample: resize(sample_frames(sample, kind)), samples)
        for row, values in enumerate(tally(resized, "Loading", len(samples), quiet)):
            frames[row] = values.flatten(0, 1)
    return ImageSet(frames, torch.tensor([sample.label for sample in samples], device=device))


def sample_frames(sample: Sample, kind: FrameKind) -> torch.Tensor:
    """Return the frames `(T, 2, 128, 128)` float32 of a sample, made again if found damaged.

    Raises UserError where damaged frames have no recording to make them from.
    """
    try:
        return torch.from_numpy(read_frames(sample.frames, kind)).float()
    except DamagedFrames as error:
        if sample.events is None:
            raise UserError(
                f"{error}; damaged, and its recording is not there: remove it"
            ) from error
        print(f"{sample.frames} is damaged: making it again", flush=True)
    root = sample.frames.parents[2]
    with _locked(root):
        convert_all([(sample.events, sample.frames)], kind, workers=0)
    return torch.from_numpy(read_frames(sample.frames, kind)).float()


def resize(frames: torch.Tensor) -> torch.Tensor:
    """Return frames `(T, 2, 128, 128)` as `(T, 2, 48, 48)`.

    Bilinear without antialiasing, as in the published results.
    """
    size = (INPUT_SIZE, INPUT_SIZE)
    return F.interpolate(frames, size=size, mode="bilinear", align_corners=False)


def _class_samples(root: Path, kind: FrameKind, label: int) -> Iterator[Sample]:
    name = CLASSES[label]
    recordings = _numbered(root / "events" / name, name)
    cache = root / kind.folder / name
    for number in sorted(recordings.keys() | _numbered(cache, name).keys()):
        frames = cache / f"cifar10_{name}_{number}.npz"
        yield Sample(label, number, recordings.get(number), frames)


def _numbered(folder: Path, name: str) -> dict[int, Path]:
    """Return the files of class `name` in `folder` by their numbers."""
    files = folder.iterdir() if folder.is_dir() else ()
    matches = ((_FILE.fullmatch(file.name), file) for file in files)
    return {int(m["number"]): file for m, file in matches if m and m["name"] == name}


def _missing_classes(root: Path, kind: FrameKind) -> list[str]:
    present = {sample.label for sample in list_samples(root, kind)}
    return [name for label, name in enumerate(CLASSES) if label not in present]


def _missing_frames(root: Path, kind: FrameKind) -> list[tuple[Path, Path]]:
    samples = list_samples(root, kind)
    return [(s.events, s.frames) for s in samples if s.events and not s.frames.exists()]


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the lock on `root`; the system frees that of a killed process."""
    lock = FileLock(root / ".lock")
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        print(f"another process prepares {root}: waiting for it", flush=True)
        lock.acquire()
    except OSError as error:
        raise UserError(f"--path {root}: cannot be written ({error.strerror})") from error
    try:
        yield
    finally:
        lock.release()


def _describe(train: ImageSet, test: ImageSet, kind: FrameKind) -> str:
    size = f"{kind.timesteps}x2x{INPUT_SIZE}x{INPUT_SIZE}"
    return (
        f"CIFAR10DVS: {len(train):,} training and {len(test):,} test recordings as frames {size},"
        f" {len(CLASSES)} classes, training with random crop 4"
    )
