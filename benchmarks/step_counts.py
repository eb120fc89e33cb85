"""Count the operations, the bytes moved and the peak memory of training steps on a GPU.

Nothing is measured: the steps run on the `meta` device (utils/device/step_memory.py), published
ones as in benchmarks/published.py. `compile off` is the folded engine by eager passes.

    python benchmarks/step_counts.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.published import as_published  # noqa: E402
from models import NeuronSetting, create_model  # noqa: E402
from utils.device.operation_counter import OperationCounter  # noqa: E402
from utils.device.step_memory import count_training_step  # noqa: E402

WAYS = {  # name -> configure's choices; None computes as the published code
    "published": None,
    "unrolled fp32": {"engine": "unrolled"},
    "folded fp32, compile off": {"engine": "folded", "compile": "off"},
    "folded fp32": {"engine": "folded", "compile": "on"},
    "folded bf16, compile off": {"engine": "folded", "precision": "bf16", "compile": "off"},
    "folded bf16": {"engine": "folded", "precision": "bf16", "compile": "on"},
}


class Case(NamedTuple):
    """A network with its data: timesteps, batch, and height and width of an image."""

    model: str
    timesteps: int
    batch: int
    side: int


CASES = (
    Case("preresnet.resnet18_lif", 5, 128, 32),
    Case("preresnet.resnet18_lif", 20, 128, 32),
    Case("preresnet.resnet18_lif", 80, 128, 32),
    Case("vgg.vgg11_lif", 20, 128, 48),
    Case("preresnet_snn.resnet18_if", 50, 36, 224),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    print("| network | T | batch | way | operations | GB moved | peak GiB | published / way |")
    print("|---|---|---|---|---|---|---|---|")
    for case in CASES:
        published = 0
        for way in WAYS:
            counter = count(case, way)
            published = published or counter.peak
            print(
                f"| {case.model} | {case.timesteps} | {case.batch} | {way} | {counter.total:,} | "
                f"{counter.bytes_moved / 1e9:.0f} | {counter.peak / 2**30:.2f} | "
                f"{published / counter.peak:.1f} |",
                flush=True,
            )


def count(case: Case, way: str, device: str = "meta") -> OperationCounter:
    """Return the counts of a training step."""
    step = Step(case, way, device)
    return count_training_step(step.model, step.images, step.labels, step.optimizer)


class Step:
    """A training step with SGD, without dropout, of inputs that are all zero."""

    def __init__(self, case: Case, way: str, device: str) -> None:
        dropout = None if case.model.startswith("preresnet_") else 0.0
        classes = 1000 if case.side == 224 else 10
        setting = NeuronSetting(timesteps=case.timesteps)
        with torch.device(device):
            self.model = create_model(case.model, setting, classes, dropout)
            shape = (3, case.side, case.side)
            if self.model.in_channels == 2:
                shape = (case.timesteps, 2, case.side, case.side)
            self.images = torch.zeros(case.batch, *shape)
            self.labels = torch.zeros(case.batch, dtype=torch.long)
        if WAYS[way] is None:
            as_published(self.model)
        else:
            self.model.configure(**WAYS[way])
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)

    def run(self) -> None:
        """Take the step."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(self.model(self.images), self.labels).backward()
        self.optimizer.step()


if __name__ == "__main__":
    main()
