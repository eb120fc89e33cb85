"""Compare the CIFAR input pipeline with torchvision transforms in a DataLoader.

Both crop, flip and normalise the same images and deliver batches on the training device. They
alternate, epoch by epoch, in one process; medians are compared.

    python benchmarks/input_pipeline.py [--images 10000] [--batch 128] [--workers 2] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe  # noqa: E402
from utils.datasets.image_tensors import Augmentation, ImageSet, Normalise, TrainImages  # noqa: E402
from utils.datasets.sharding import train_spans  # noqa: E402

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


class TransformedImages(torch.utils.data.Dataset):
    """The common pipeline: one Pillow image at a time through torchvision transforms."""

    def __init__(self, data: ImageSet) -> None:
        from torchvision import transforms as T

        self.images = data.images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = data.labels.tolist()
        self.transform = T.Compose(
            [T.RandomCrop(32, 4), T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(MEAN, STD)]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def in_memory(data: ImageSet, batch: int, device: torch.device) -> Callable[[int], Iterable]:
    """Return the project's loader as a function from the epoch to its batches."""
    loader = TrainImages(
        data.to(device),
        Normalise(MEAN, STD, device),
        Augmentation(),
        train_spans(len(data), batch),
        seed=0,
    )

    def epoch_batches(epoch: int) -> Iterable:
        loader.set_epoch(epoch)
        return loader

    return epoch_batches


def per_image(
    data: ImageSet, batch: int, workers: int, device: torch.device
) -> Callable[[int], Iterable]:
    """Return the DataLoader as a function from the epoch to its batches; its workers stay alive."""
    loader = torch.utils.data.DataLoader(
        TransformedImages(data),
        batch,
        shuffle=True,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
    )
    return lambda epoch: (
        (images.to(device, non_blocking=True), labels.to(device, non_blocking=True))
        for images, labels in loader
    )


def images_per_second(batches: Iterable, device: torch.device) -> float:
    """Run through one epoch's batches and return its rate."""
    start, count = time.perf_counter(), 0
    for images, _ in batches:
        count += len(images)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return count / (time.perf_counter() - start)


def measure(pipelines: dict[str, Callable], rounds: int, device: torch.device) -> dict[str, list]:
    """Return each pipeline's rates over `rounds` alternating epochs, after one to warm up."""
    rates = {name: [] for name in pipelines}
    for epoch in range(rounds + 1):
        for name, epoch_batches in pipelines.items():
            rates[name].append(images_per_second(epoch_batches(epoch), device))
    return {name: values[1:] for name, values in rates.items()}


def build_parser() -> argparse.ArgumentParser:
    """Return the flags of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000, help="images per epoch")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2, help="processes of the DataLoader")
    parser.add_argument("--rounds", type=int, default=5, help="epochs to measure")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def main(args: argparse.Namespace) -> None:
    """Print one line for each pipeline, and their ratio."""
    device = torch.device(args.device)
    generator = torch.Generator().manual_seed(0)
    shape = (args.images, 3, 32, 32)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    data = ImageSet(images, torch.zeros(args.images, dtype=torch.int64))
    pipelines = {
        "in memory, batched": in_memory(data, args.batch, device),
        f"DataLoader, {args.workers} workers": per_image(data, args.batch, args.workers, device),
    }
    setting = f"{args.images:,} images, batch {args.batch}, {args.rounds} rounds"
    print(*describe().values(), f"on {device.type}", setting, sep="; ")
    medians = []
    for name, rates in measure(pipelines, args.rounds, device).items():
        medians.append(statistics.median(rates))
        spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
        print(f"{name:24s} {medians[-1]:>12,.0f} images/s  ({spread})")
    print(f"{'ratio':24s} {medians[0] / medians[1]:>12.1f}")


if __name__ == "__main__":
    main(build_parser().parse_args())
