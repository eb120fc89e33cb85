"""Small networks and inputs for tests, and one training step with all its results."""

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


def network(
    name: str, timesteps: int, dropout: float | None = 0.0, width: int = 8, **setting
) -> nn.Module:
    """Return a narrow float64 network in training mode, its weights filled by rule."""
    Vth = setting.pop("Vth", THRESHOLD[name.rsplit("_", 1)[1]])
    setting = NeuronSetting(timesteps=timesteps, Vth=Vth, **setting)
    if name.startswith("preresnet_"):
        dropout = None
    model = create_model(name, setting, 7, dropout, width=width).double()
    fill(model, salt=1, Vth=Vth)
    return model


def images(name: str, timesteps: int, batch: int) -> Tensor:
    """Return inputs of the least size at which every BatchNorm has several values per channel."""
    g = torch.Generator().manual_seed(timesteps * 10 + batch)
    if name.startswith("vgg"):
        return torch.rand(batch, timesteps, 2, 32, 32, generator=g, dtype=torch.float64)
    size = 64 if name.startswith("preresnet_snn") else 32
    return torch.randn(batch, 3, size, size, generator=g, dtype=torch.float64)


class Step(NamedTuple):
    """The results of one training step."""

    logits: Tensor
    loss: float
    grads: dict[str, Tensor]
    buffers: dict[str, Tensor]


def step(model: nn.Module, x: Tensor, labels: Tensor | None = None) -> Step:
    """Run forward and backward once; gradients and buffers are by name."""
    model.zero_grad(set_to_none=True)
    logits = model(x)
    labels = torch.arange(len(x)) % logits.shape[1] if labels is None else labels
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    return Step(logits.detach(), loss.item(), grads, dict(model.named_buffers()))


def distance(a: Tensor, b: Tensor) -> float:
    """Return `|a - b| / |b|`, or `|a - b|` where b is zero in exact arithmetic."""
    scale = b.norm().item()
    return (a - b).norm().item() / (scale if scale > 1e-10 else 1.0)


def assert_equal_steps(actual: Step, expected: Step, tolerance: float = 1e-10) -> None:
    """Assert that logits, loss, every gradient and every buffer agree."""
    assert distance(actual.logits, expected.logits) <= tolerance
    assert abs(actual.loss - expected.loss) <= tolerance
    assert actual.grads.keys() == expected.grads.keys()
    for name, grad in actual.grads.items():
        assert distance(grad, expected.grads[name]) <= tolerance, name
    for name, buffer in actual.buffers.items():
        assert distance(buffer.double(), expected.buffers[name].double()) <= tolerance, name
