"""Memory of a step, counted without values, against the same count of a step on the CPU."""

import pytest
import torch
from torch import nn

from models import NeuronSetting, create_model
from models.engines import select
from utils.device import step_memory
from utils.device.step_memory import GRANULE, copy_to_meta, largest_batch
from utils.optimization import optimizer

WAYS = {
    "folded-fp32": {"engine": "folded", "precision": "fp32", "compile": "off"},
    "folded-bf16": {"engine": "folded", "precision": "bf16", "compile": "off"},
    "unrolled-fp32": {"engine": "unrolled", "precision": "fp32"},
    "unrolled-bf16": {"engine": "unrolled", "precision": "bf16"},
}


def _count(model, shape, kind, parts):
    device = next(model.parameters()).device
    opt = optimizer.build(kind, model, lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=False)
    images = torch.zeros(shape, device=device)
    labels = torch.zeros(len(images), dtype=torch.long, device=device)
    trained = step_memory.count_training_step(model, images, labels, opt, parts)
    return trained.peak, trained.live, step_memory.count_evaluation(model, images).peak


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "dropout", "shape"),
    [("preresnet.resnet18_lif", None, (4, 3, 32, 32)), ("vgg.vgg11_if", 0.1, (4, 2, 2, 32, 32))],
)
def test_the_count_is_that_of_a_step_on_the_cpu(name, dropout, shape, way, monkeypatch):
    monkeypatch.setattr(select, "has_bf16", lambda device: True)
    model = create_model(name, NeuronSetting(timesteps=2), 10, dropout)
    model.configure(**WAYS[way])
    without_values = copy_to_meta(model)
    kind, parts = ("Adam", 2) if way == "folded-fp32" else ("SGD", 1)
    without_values.configure(**WAYS[way])
    assert _count(without_values, shape, kind, parts) == _count(model, shape, kind, parts)


def test_everything_that_a_step_holds_is_counted():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False)).to("meta")
    # The weight, its gradient and momentum; images; labels; logits, their logarithms.
    peak, live, evaluation = _count(model, (16, 64), "SGD", 1)
    weight, images, logits = 64 * 10 * 4, 16 * 64 * 4, 2 * GRANULE
    assert live == 3 * weight + images + GRANULE
    assert live < peak <= live + 4 * logits
    assert evaluation == weight + images + logits


def test_a_copy_without_values_shares_nothing_with_its_network():
    model = create_model("vgg.vgg11_if", NeuronSetting(timesteps=2), 10)
    model.layer1[0].weight.requires_grad_(False)
    copy = copy_to_meta(model)
    assert {t.device.type for t in (*copy.parameters(), *copy.buffers())} == {"meta"}
    assert {t.device.type for t in (*model.parameters(), *model.buffers())} == {"cpu"}
    for one, other in zip(model.parameters(), copy.parameters(), strict=True):
        assert (one.shape, one.stride(), one.requires_grad) == (
            other.shape,
            other.stride(),
            other.requires_grad,
        )


@pytest.mark.parametrize("room", [0, 1299, 1300, 1301, 5000, 10**6, 3 * 10**6])
def test_the_largest_batch_is_found_in_few_counts(room):
    asked = []

    def peak(images):
        asked.append(images)
        activations = max(100 + 150 * images, 37 * images + 2000)
        return 1000 + -(-activations // 512) * 512

    found = largest_batch(peak, room)
    assert len(asked) <= 12
    assert found == max((n for n in range(2, 21000) if peak(n) <= room), default=0)
