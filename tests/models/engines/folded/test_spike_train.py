"""Spike trains and currents: dropout, and when memory is freed."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models import LIFNeuron, NeuronSetting
from models.engines.folded import FoldedEngine
from models.engines.ops.dispatch import Kernels
from models.engines.ops.sparse.event_driven import ALWAYS
from tests.models.networks import distance, images, network, step


def torch_mask(like: torch.Tensor, p: float) -> tuple[torch.Tensor, float]:
    """Draw the mask that torch's own dropout draws after the same seed."""
    return F.dropout(torch.ones(like.shape, dtype=like.dtype), p) > 0, 1 - p


def test_dropout_is_close() -> None:
    model = network("vgg.vgg11_lif", 8, dropout=0.1, width=32)
    x = images("vgg.vgg11_lif", 8, 3)
    exact = copy.deepcopy(model)
    model.configure(engine="folded", draw_mask=torch_mask)
    exact.configure(engine="unrolled")
    torch.manual_seed(3)
    folded = step(model, x)
    torch.manual_seed(3)
    unrolled = step(exact, x)
    assert folded.loss == pytest.approx(unrolled.loss, rel=1e-12)
    last, first = "classifier.1.weight", "layer1.0.weight"
    assert distance(folded.grads[last], unrolled.grads[last]) < 1e-9
    assert distance(folded.grads[first], unrolled.grads[first]) < 0.2


@pytest.mark.parametrize("pool", [nn.Identity(), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)])
def test_dropout_of_spikes_frames_and_pooled_spikes(pool: nn.Module) -> None:
    engine, T = FoldedEngine(4, Kernels(), draw_mask=lambda like, p: (like > like.mean(), 0.75)), 4
    frames = torch.rand(2, T, 3, 8, 8, dtype=torch.float64)
    neuron = LIFNeuron(NeuronSetting(timesteps=T, Vth=0.02)).double()
    for train in (engine.present(frames), neuron(engine.present(frames))):
        train = train if train.handle is None else pool(train)
        mask = train.values > train.values.mean()
        dropped = F.dropout(train, 0.25)
        expected = train.scaled() * mask / 0.75
        torch.testing.assert_close(dropped.scaled(), expected)
        assert dropped.binary == train.binary and expected.any()


def test_spike_trains_are_freed_when_their_current_is_summed() -> None:
    engine = FoldedEngine(4, Kernels())
    neuron = LIFNeuron(NeuronSetting(timesteps=4, Vth=0.1))
    conv, norm = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5)
    train = neuron(norm(conv(engine.present(torch.randn(2, 3, 8, 8)))))
    values = weakref.ref(train.values)
    current = nn.Conv2d(5, 5, 3)(train)
    del train
    assert values() is not None
    neuron(nn.BatchNorm2d(5)(current))
    assert values() is None


def test_a_residual_waits_in_bytes() -> None:
    engine = FoldedEngine(4, Kernels())
    neuron = LIFNeuron(NeuronSetting(timesteps=4, Vth=0.1))
    train = neuron(nn.Conv2d(3, 5, 3, padding=1)(engine.present(torch.randn(2, 3, 8, 8))))
    spikes = train.values.clone()
    neuron(nn.Conv2d(5, 5, 3)(train))
    assert train.values.dtype == torch.uint8
    assert torch.equal(train.unpacked().values, spikes) and spikes.any()


def saved_bytes(model: nn.Module, x: torch.Tensor) -> int:
    """Return the bytes that the graph keeps for backward, without parameters and buffers."""
    own = {t.untyped_storage().data_ptr() for t in model.state_dict(keep_vars=True).values()}
    kept = {}

    def pack(t: torch.Tensor) -> torch.Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        loss = F.cross_entropy(model(x), torch.zeros(len(x), dtype=torch.long))
    del loss
    return sum(kept.values())


@pytest.mark.parametrize("name", ["preresnet.resnet18_lif", "vgg.vgg11_if"])
def test_what_is_kept_for_backward_does_not_grow_with_time(name: str) -> None:
    kept = {}
    for timesteps in (4, 16):
        model = network(name, timesteps, width=16)
        kept[timesteps] = saved_bytes(model, images(name, timesteps, 2))
        model.configure(engine="unrolled")
        kept["unrolled", timesteps] = saved_bytes(model, images(name, timesteps, 2))
    assert kept[16] <= 1.01 * kept[4]
    assert kept["unrolled", 16] > 3 * kept["unrolled", 4]  # the measurement works


@pytest.mark.parametrize("pool, T", [(nn.AvgPool2d(4), 20), (nn.Identity(), 300)])
def test_totals_of_dropped_out_bytes_do_not_overflow(pool: nn.Module, T: int) -> None:
    engine = FoldedEngine(T, Kernels(), crossings=ALWAYS)
    frames = torch.ones(2, T, 3, 4, 4, dtype=torch.float64)
    train = F.dropout(pool(LIFNeuron(timesteps=T, Vth=0.02).double()(engine.present(frames))), 0.1)
    assert train.values.dtype == torch.uint8
    total = train.values.unflatten(0, (T, -1)).double().sum(0)
    assert torch.equal(train.total.double(), total) and total.max() > 255
