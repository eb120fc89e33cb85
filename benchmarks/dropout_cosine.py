"""Measure how close the folded engine's gradients through dropout are to the exact ones.

Both engines draw the same dropout masks on event data. For every weight, the cosine between the two
gradients is computed in float64, at initialisation and after some training steps.

    python -m utils.sample_data dvs --path ./data/DigitsDVS
    python benchmarks/dropout_cosine.py --path ./data/DigitsDVS
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from models import NeuronSetting, create_model  # noqa: E402
from utils.events.batches import resize  # noqa: E402
from utils.events.cifar10_dvs import CIFAR10DVS  # noqa: E402
from utils.events.collection import prepare, read_sample  # noqa: E402
from utils.events.frame_cache import FrameKind  # noqa: E402

SETTINGS = {
    "vgg.vgg11_if": {"Vth": 6.0, "alpha": 0.5, "Vth_bound": 0.01},
    "vgg.vgg11_lif": {"Vth": 0.3, "alpha": 0.3, "Vth_bound": 0.0005},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--path", type=Path, default=Path("./data/DigitsDVS"))
    parser.add_argument("--timesteps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument(
        "--steps", type=int, default=10, help="training steps between the two measurements"
    )
    parser.add_argument("--dropout", type=float, default=0.1)
    args = parser.parse_args()
    frames, labels = _recordings(args)
    print(f"| network | after steps | least cosine | of weight | median |\n{'|---' * 5}|")
    for name, setting in SETTINGS.items():
        torch.manual_seed(0)
        setting = NeuronSetting(timesteps=args.timesteps, **setting)
        model = create_model(name, setting, dropout=args.dropout)
        _report(name, 0, model, frames, labels)
        _train(model, frames, labels, args.steps)
        _report(name, args.steps, model, frames, labels)


def _draw_mask(like: Tensor, p: float) -> tuple[Tensor, float]:
    """Draw the mask that torch's own dropout draws after the same seed."""
    return F.dropout(torch.ones(like.shape, dtype=like.dtype), p) > 0, 1 - p


def _recordings(args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """The first recordings of every class, as frames `(N, T, 2, 48, 48)`."""
    kind = FrameKind(args.timesteps)
    prepare(CIFAR10DVS(), args.path, kind, workers=2)
    samples = CIFAR10DVS().samples(args.path, kind)
    each = args.batch // 10
    chosen = [[s for s in samples if s.label == label][:each] for label in range(10)]
    flat = [sample for group in chosen for sample in group]
    frames = [resize(read_sample(sample, kind)) for sample in flat]
    return torch.stack(frames), torch.tensor([sample.label for sample in flat])


def _train(model: nn.Module, frames: Tensor, labels: Tensor, steps: int) -> None:
    model.configure(engine="unrolled")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(frames), labels).backward()
        optimizer.step()


def _report(name: str, steps: int, model: nn.Module, frames: Tensor, labels: Tensor) -> None:
    exact, close = (_gradients(model, e, frames, labels) for e in ("unrolled", "folded"))
    cosines = {
        key: F.cosine_similarity(close[key].flatten(), exact[key].flatten(), dim=0).item()
        for key in exact
        if key.endswith("weight")
    }
    worst = min(cosines, key=cosines.get)
    median = sorted(cosines.values())[len(cosines) // 2]
    print(f"| {name} | {steps} | {cosines[worst]:.5f} | {worst} | {median:.5f} |", flush=True)


def _gradients(model: nn.Module, engine: str, frames: Tensor, labels: Tensor) -> dict[str, Tensor]:
    model.double()
    model.configure(engine=engine, draw_mask=_draw_mask)
    model.zero_grad()
    torch.manual_seed(1)
    F.cross_entropy(model(frames.double()), labels).backward()
    grads = {key: p.grad.clone() for key, p in model.named_parameters()}
    model.float()
    return grads


if __name__ == "__main__":
    main()
