"""Whole steps on the `meta` device, which stands for a GPU.

Its tensors have no values, so that reading one on the host raises an error.
"""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models import NeuronSetting, create_model, list_models
from tests.models.networks import SPIKING
from utils.device.operation_counter import OperationCounter

META = torch.device("meta")
ANNS = [name for name in list_models("preresnet_ann.") if "preresnet50" not in name]
TIMESTEPS, PRECISIONS = (1, 5, 20), ("fp32", "bf16")


class MetaOnly(TorchDispatchMode):
    """Refuses tensors of other devices."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for leaf in tree_leaves((args, kwargs)):
            assert not isinstance(leaf, Tensor) or leaf.device == META, func
        return func(*args, **(kwargs or {}))


def network(name: str, timesteps: int) -> nn.Module:
    dropout = None if name.startswith("preresnet_") else 0.0
    with META:
        return create_model(name, NeuronSetting(timesteps=timesteps), 10, dropout)


def inputs(name: str, timesteps: int, batch: int, size: int | None = None):
    size = size or (64 if name.startswith("preresnet_") else 32)
    shape = (timesteps, 2, size, size) if name.startswith("vgg") else (3, size, size)
    labels = torch.empty(batch, dtype=torch.long, device=META)
    return torch.empty(batch, *shape, device=META), labels


def train(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    model.train()
    F.cross_entropy(model(images), labels).backward()
    for name, p in model.named_parameters():
        expected = (p.shape, p.stride(), p.dtype, p.device)
        assert (p.grad.shape, p.grad.stride(), p.grad.dtype, p.grad.device) == expected, name


@torch.inference_mode()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    output = model.eval()(images)
    assert (output.shape, output.dtype, output.device) == ((len(labels), 10), torch.float32, META)


@pytest.mark.parametrize("timesteps", TIMESTEPS)
@pytest.mark.parametrize("engine", ["folded", "rate", "unrolled"])
@pytest.mark.parametrize("name", SPIKING)
def test_steps_of_spiking_networks(name: str, engine: str, timesteps: int) -> None:
    model = network(name, timesteps)
    for precision in PRECISIONS:
        model.configure(engine=engine, precision=precision, compile="on")
        model.zero_grad()
        with MetaOnly():
            train(model, *inputs(name, timesteps, 2))
            evaluate(model, *inputs(name, timesteps, 2))


@pytest.mark.parametrize("name", ANNS)
def test_steps_of_anns(name: str) -> None:
    for precision, step in product(PRECISIONS, (train, evaluate)):
        model = network(name, 1)
        model.configure(precision=precision)
        with MetaOnly():
            step(model, *inputs(name, 1, 2))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_launches_do_not_depend_on_time(precision: str) -> None:
    """At most 1,500 for a step of ResNet-18; by eager passes they are 8,000 at T = 20."""
    name, counts = "preresnet.resnet18_lif", []
    for timesteps in (1, 20, 80):  # what the first one creates is cached
        model = network(name, timesteps)
        model.configure(engine="folded", precision=precision, compile="on")
        with OperationCounter() as counter:
            train(model, *inputs(name, timesteps, 2))
        counts.append(counter.total)
    assert counts[1] == counts[2] <= 1500
    assert counter.operations["fire"] == len(model.neurons())
