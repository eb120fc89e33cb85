"""What the tests of networks share: small inputs, and a step that gives everything it computed."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import NeuronSetting, create_model, list_models
from tests.golden_numbers import fill

SPIKING = [
    name for name in list_models() if not name.startswith(("preresnet_ann", "preresnet_cal"))
]

# Thresholds low enough for the deep layers of an untrained network to fire.
THRESHOLD = {"if": 1.5, "lif": 0.08}


def network(name: str, timesteps: int, dropout: float | None = 0.0, **setting) -> nn.Module:
    """A float64 network with rule-filled weights, in training mode."""
    Vth = setting.pop("Vth", THRESHOLD[name.rsplit("_", 1)[1]])
    setting = NeuronSetting(timesteps=timesteps, Vth=Vth, **setting)
    if name.startswith("preresnet_"):
        dropout = None
    model = create_model(name, setting, num_classes=7, dropout=dropout).double()
    fill(model, salt=1, Vth=Vth)
    return model


def images(name: str, timesteps: int, batch: int) -> Tensor:
    """Seeded inputs of the least size at which every BatchNorm has several values a channel."""
    g = torch.Generator().manual_seed(timesteps * 10 + batch)
    if name.startswith("vgg"):
        return torch.rand(batch, timesteps, 2, 32, 32, generator=g, dtype=torch.float64)
    size = 64 if name.startswith("preresnet_snn") else 32
    return torch.randn(batch, 3, size, size, generator=g, dtype=torch.float64)


class Step(NamedTuple):
    logits: Tensor
    loss: float
    grads: dict[str, Tensor]
    buffers: dict[str, Tensor]


def step(model: nn.Module, x: Tensor, labels: Tensor | None = None) -> Step:
    """Forward and backward once; gradients and buffers by name."""
    model.zero_grad(set_to_none=True)
    logits = model(x)
    labels = torch.arange(len(x)) % logits.shape[1] if labels is None else labels
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    return Step(logits.detach(), loss.item(), grads, dict(model.named_buffers()))


def distance(a: Tensor, b: Tensor) -> float:
    """`|a - b| / |b|`, absolute where b is zero in exact arithmetic."""
    scale = b.norm().item()
    return (a - b).norm().item() / (scale if scale > 1e-10 else 1.0)


def assert_equal_steps(mine: Step, theirs: Step, tolerance: float = 1e-10) -> None:
    """Logits, loss, every gradient and every buffer agree."""
    assert distance(mine.logits, theirs.logits) <= tolerance
    assert abs(mine.loss - theirs.loss) <= tolerance
    assert mine.grads.keys() == theirs.grads.keys()
    for name, grad in mine.grads.items():
        assert distance(grad, theirs.grads[name]) <= tolerance, name
    for name, buffer in mine.buffers.items():
        assert distance(buffer.double(), theirs.buffers[name].double()) <= tolerance, name
