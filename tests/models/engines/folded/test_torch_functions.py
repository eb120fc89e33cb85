"""torch's functions on spike trains: pooling as published, and errors that name broken rules."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models import IFNeuron, LIFNeuron, NeuronSetting
from models.engines.folded import FoldedEngine
from models.engines.ops.dispatch import Kernels

POOLS = {
    "cifar": nn.AvgPool2d(4),
    "vgg": nn.Sequential(nn.AvgPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(7)),
    "vgg_of_one_pixel": nn.Sequential(nn.AvgPool2d(8), nn.AdaptiveAvgPool2d(7)),
    "imagenet_stem": nn.AvgPool2d(3, stride=2, padding=1),
    "imagenet_head": nn.AdaptiveAvgPool2d(1),
    "uncounted_padding": nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
    "ceil": nn.AvgPool2d(3, ceil_mode=True),
    "divisor": nn.AvgPool2d(2, divisor_override=3),
    "of_two_sides": nn.AvgPool2d((2, 4)),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=("fp64", "fp32"))
@pytest.mark.parametrize("neuron", [IFNeuron, LIFNeuron])
@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_pooled_spikes_are_rounded_as_published(pool, neuron, dtype) -> None:
    """The amplitude is multiplied before values are averaged, bit for bit."""
    T, engine = 5, FoldedEngine(5, Kernels())
    z = torch.rand(2, T, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=dtype)
    z[:, :, :, 4:] *= 8  # fires at every step
    for Vth in (0.75, 0.3, 1 / 3, 6.1):
        layer = neuron(NeuronSetting(timesteps=T, delta_t=0.3)).to(dtype)
        layer.Vth.data.fill_(Vth)
        train = layer(engine.present(z * Vth))
        amplitude = layer.Vth.detach() * layer.dynamics.amplitude
        published = pool(train.values.contiguous() * amplitude)
        pooled = pool(train)
        assert torch.equal(pooled.scaled(), published)
        total = pooled.total * (1 if pooled.amplitude is None else pooled.amplitude)
        torch.testing.assert_close(total, published.unflatten(0, (T, -1)).sum(0))
        assert 0 < pooled.scaled().mean() < pooled.scaled().max()


def test_pooled_spikes_in_bf16_are_counts() -> None:
    engine = FoldedEngine(4, Kernels(), torch.bfloat16)
    train = IFNeuron(NeuronSetting(timesteps=4, Vth=0.3))(engine.present(torch.rand(2, 3, 8, 8)))
    counts = F.avg_pool2d(train.values.float(), 4) * 16
    pooled = F.avg_pool2d(train, 4)
    assert pooled.values.dtype == torch.bfloat16 and torch.equal(pooled.values.float(), counts)
    assert pooled.amplitude == train.amplitude / 16


def test_padding_in_words_is_named() -> None:
    train = FoldedEngine(4, Kernels()).present(torch.randn(1, 3, 8, 8))
    with pytest.raises(TypeError, match="padding 'same' .* in numbers"):
        F.conv2d(train, nn.Conv2d(3, 6, 3).weight, padding="same")


def test_misuse_is_named() -> None:
    engine = FoldedEngine(4, Kernels())
    neuron = IFNeuron(NeuronSetting(timesteps=4))
    train = engine.present(torch.rand(2, 3, 8, 8))
    with pytest.raises(TypeError, match="only linear maps .* not max_pool2d.*unrolled"):
        F.max_pool2d(train, 2)
    current = nn.Conv2d(3, 5, 3)(train)
    neuron(current)
    with pytest.raises(RuntimeError, match="the same current drives two neuron layers"):
        neuron(current)
    with pytest.raises(RuntimeError, match="the same current drives two neuron layers"):
        current + train
    with pytest.raises(TypeError, match="conv2d must directly follow a neuron layer"):
        nn.Conv2d(5, 5, 3)(nn.Conv2d(3, 5, 3)(train))
    with pytest.raises(TypeError, match="avg_pool2d must directly follow a neuron layer"):
        F.avg_pool2d(nn.Conv2d(3, 5, 3)(train), 2)
    with pytest.raises(TypeError, match="BatchNorm must not directly follow another"):
        nn.BatchNorm2d(5)(nn.BatchNorm2d(5)(nn.Conv2d(3, 5, 3)(train)))
    with pytest.raises(TypeError, match="on the input image"):
        F.dropout(train, 0.5)
    with pytest.raises(TypeError, match="BatchNorm inside a sum"):
        nn.BatchNorm2d(3)(train) + train
    with pytest.raises(TypeError, match="affine=True"):
        nn.BatchNorm2d(3, affine=False)(train)


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x * 2,
        lambda x: x - x,
        lambda x: -x,
        lambda x: x[0],
        lambda x: x + torch.ones(1),
        lambda x: torch.ones(1) + x,
        lambda x: sum([x, x]),
        torch.relu,
        F.gelu,
    ],
)
def test_operations_that_are_not_linear_are_named(operation) -> None:
    train = FoldedEngine(4, Kernels()).present(torch.rand(2, 3, 8, 8))
    with pytest.raises(TypeError, match="only linear maps may stand between two neuron layers"):
        operation(train)


def test_methods_of_tensors_are_named() -> None:
    train = FoldedEngine(4, Kernels()).present(torch.rand(2, 3, 8, 8))
    with pytest.raises(AttributeError, match=r"only linear maps .* not \.relu"):
        train.relu()


def test_sums_by_torch_are_sums() -> None:
    train = FoldedEngine(4, Kernels()).present(torch.rand(2, 3, 8, 8))
    assert len(torch.add(train, nn.Conv2d(3, 3, 1)(train)).branches) == 2
