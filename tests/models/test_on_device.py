"""Whole steps on a GPU, where there is one; else the same tests on the CPU, of a tiny network."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch

from models import NeuronSetting
from tests.cifar.tiny_net import tiny_if, tiny_lif
from tests.models.networks import assert_equal_steps, distance, images, network, step
from utils.distributed.world import World
from utils.optimization import optimizer
from utils.system.signals import Signals
from utils.training import loop
from utils.training.hooks import RunHooks
from utils.training.state import TrainState

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
TINY = {"tiny_if": tiny_if, "tiny_lif": tiny_lif}
NAMES = [*TINY, *(("preresnet.resnet18_lif", "preresnet.resnet18_if", "vgg.vgg11_lif") * GPU)]


def build(name: str, dtype: torch.dtype) -> tuple[torch.nn.Module, torch.Tensor]:
    """Return a network on the device, and images for it."""
    if name in TINY:
        torch.manual_seed(1)
        model = TINY[name](NeuronSetting(timesteps=4, Vth=0.2), num_classes=7)
        x = images("preresnet.resnet18_if", 4, 6)
    else:
        model, x = network(name, 4), images(name, 4, 6)
    return model.to(DEVICE, dtype), x.to(DEVICE, dtype)


@pytest.mark.parametrize("name", NAMES)
def test_engines_agree_in_float64(name: str) -> None:
    model, x = build(name, torch.float64)
    labels = torch.arange(len(x), device=DEVICE) % 7
    steps = []
    for engine in ("folded", "unrolled"):
        model.configure(engine=engine, compile="on")
        state = {key: value.clone() for key, value in model.state_dict().items()}
        steps.append(step(model, x, labels))
        steps[-1] = steps[-1]._replace(
            buffers={key: value.clone() for key, value in steps[-1].buffers.items()}
        )
        model.load_state_dict(state)
    assert_equal_steps(*steps)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", NAMES)
def test_compiled_passes_give_the_step_of_eager_ones(name: str, precision: str) -> None:
    model, x = build(name, torch.float32)
    labels = torch.arange(len(x), device=DEVICE) % 7
    eager, compiled = [], []
    for compile, steps in (("off", eager), ("on", compiled)):
        model.configure(engine="folded", precision=precision, compile=compile)
        steps.append(step(model, x, labels))
    tolerance = 1e-3 if precision == "fp32" else 3e-2
    assert distance(compiled[0].logits, eager[0].logits) <= tolerance
    for key, grad in eager[0].grads.items():
        assert distance(compiled[0].grads[key], grad) <= tolerance, key


class EndOfTest(Exception):
    """Raised by a loader in place of its end, after which values are read."""


def test_training_steps_do_not_synchronize_the_device() -> None:
    model, x = build("tiny_lif", torch.float32)
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}
    state, world = TrainState(model, optimizer.build("SGD", model, **settings)), World(DEVICE)
    model.configure(engine="folded", compile="on")
    labels = torch.arange(len(x), device=DEVICE) % 7

    def loader():
        yield x, labels  # this step compiles, and caches constants
        if GPU:
            torch.cuda.set_sync_debug_mode("error")
        yield from [(x, labels)] * 3
        raise EndOfTest

    try:
        with Signals() as signals, pytest.raises(EndOfTest):
            hooks = RunHooks(state, 9, world, signals, SimpleNamespace(), skip=True)
            bar = MagicMock(**{"step.return_value": None})
            loop.train_one_epoch(state, model, loader(), [0.1] * 9, world, bar, hooks)
    finally:
        if GPU:
            torch.cuda.set_sync_debug_mode("default")
    assert hooks.settle_step() and state.meter.count() == 4 * len(x)
