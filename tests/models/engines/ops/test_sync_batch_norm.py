"""BatchNorm over ranks, as one of them computes it; `tests/test_world_size.py` runs several."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from models import NeuronSetting, create_model
from models.engines.ops import sync_batch_norm

LAYERS = [(nn.BatchNorm2d(3), (4, 3, 5, 6)), (nn.BatchNorm1d(3), (7, 3))]


@pytest.fixture
def of_several_ranks(monkeypatch):
    """Treat this process as one of several ranks, the others without samples."""
    monkeypatch.setattr(sync_batch_norm, "_several_ranks", lambda: True)
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: None)


def step(layer: nn.Module, x: torch.Tensor, shared: bool) -> list[torch.Tensor]:
    """Return output, gradients and running statistics of a training step."""
    layer, x = copy.deepcopy(layer).to(x.dtype), x.clone().requires_grad_()
    nn.init.uniform_(layer.weight, 0.5, 1.5)
    if shared:
        with sync_batch_norm.SyncBatchNormMode():
            z = layer(x)
    else:
        z = layer(x)
    (z * torch.linspace(0, 1, z.numel(), dtype=x.dtype).view_as(z)).square().sum().backward()
    gradients = [x.grad, layer.weight.grad, layer.bias.grad]
    return [z.detach(), *gradients, layer.running_mean, layer.running_var]


@pytest.mark.parametrize("layer, shape", LAYERS, ids=("maps", "rows"))
def test_a_rank_with_all_samples_computes_what_torch_computes(
    of_several_ranks, layer, shape
) -> None:
    results = []
    for shared in (True, False):
        torch.manual_seed(0)
        results.append(step(layer, 3 + torch.randn(shape, dtype=torch.float64), shared))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def test_the_output_has_the_type_of_the_input(of_several_ranks) -> None:
    layer = nn.BatchNorm1d(3)
    with sync_batch_norm.SyncBatchNormMode(), torch.autocast("cpu", torch.bfloat16):
        x = nn.functional.linear(torch.randn(8, 3), torch.eye(3).requires_grad_())
        z = layer(x)
    z.float().sum().backward()
    assert (x.dtype, z.dtype) == (torch.bfloat16, torch.bfloat16)
    assert layer.weight.grad.dtype == layer.running_var.dtype == torch.float32


def test_evaluation_makes_no_all_reduce(monkeypatch) -> None:
    # Without a process group, an all-reduce would fail.
    monkeypatch.setattr(sync_batch_norm, "_several_ranks", lambda: True)
    layer, x = nn.BatchNorm1d(3).eval(), torch.randn(4, 3)
    with sync_batch_norm.SyncBatchNormMode():
        assert torch.equal(layer(x), copy.deepcopy(layer)(x))


def test_moments_of_batches_of_different_size_are_those_of_the_whole(monkeypatch) -> None:
    y = 1e4 + torch.randn(10, 3)
    shares = [share.double() for share in (y[:3], y[3:])]
    parts = [(share.mean(0), share.var(0, correction=0), len(share)) for share in shares]
    other = []

    def keep(*given):
        other.extend(given)
        return given

    def add(*given):
        return tuple(a + b for a, b in zip(given, other, strict=True))

    monkeypatch.setattr(sync_batch_norm, "all_reduce_sum", keep)
    sync_batch_norm.all_reduce_statistics(*parts[1])
    monkeypatch.setattr(sync_batch_norm, "all_reduce_sum", add)
    mean, var, count = sync_batch_norm.all_reduce_statistics(*parts[0])
    torch.testing.assert_close(mean, y.double().mean(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(var, y.double().var(0, correction=0), rtol=1e-6, atol=0)
    assert count == 10


def test_without_a_process_group_nothing_is_added() -> None:
    parts = torch.ones(2), torch.zeros(3)
    assert sync_batch_norm.all_reduce_sum(*parts) == sync_batch_norm.local(*parts) == parts


@pytest.mark.parametrize("name", ["preresnet.resnet18_lif", "preresnet_ann.resnet18"])
def test_networks_can_be_configured_with_it(name: str) -> None:
    model = create_model(name, NeuronSetting(timesteps=2))
    assert not model.choice.sync_bn
    model.configure(sync_bn=True)
    assert model.choice.sync_bn
