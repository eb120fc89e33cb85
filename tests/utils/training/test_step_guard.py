"""Steps that are decided on the device, and read by the host one step later."""

import math
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch

from tests.utils.stand_ins import Net
from utils.distributed.world import World
from utils.optimization import optimizer
from utils.system.signals import Signals
from utils.training import loop, step_guard
from utils.training.hooks import RunHooks
from utils.training.metrics import Meter
from utils.training.state import TrainState
from utils.training.step_guard import StepGuard

SETTINGS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}
CPU, META = torch.device("cpu"), torch.device("meta")


def _state(name="SGD", device=CPU):
    net = Net(dropout=0.0).to(device)
    state = TrainState(net, optimizer.build(name, net, **SETTINGS))
    state.meter = Meter(device)
    return state


def _gradients(state, value=1.0):
    for parameter in state.model.parameters():
        parameter.grad = torch.full_like(parameter, 0.1)
    state.model.last.weight.grad[0, 0] = value
    batch = Meter(CPU)
    batch.add(torch.tensor(1.0), torch.eye(3)[:1], torch.tensor([0]))
    return batch


@pytest.mark.parametrize("name", optimizer.NAMES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("first", [True, False], ids=("first", "later"))
def test_a_rejected_step_changes_nothing(name, value, first):
    state, twin = _state(name), _state(name)
    guard = StepGuard(state, World(CPU), keep_buffers=True)
    guard.before_step()
    for one in (state, twin) if not first else ():
        _gradients(one)
        one.optimizer.step()
    guard.take_step(torch.zeros(1), _gradients(state, value), "step 1")
    rejected = guard.rejected()
    assert (rejected.position, rejected.parameters) == ("step 1", ["last.weight"])
    assert state.meter.count() == 0
    guard.restore_buffers()
    for one in (state, twin):  # a good step afterwards is as if the other had not been there
        batch = _gradients(one)
        guard.take_step(torch.zeros(1), batch, "step 2") if one is state else one.optimizer.step()
    assert guard.rejected() is None and state.meter.count() == 1
    for key, value in twin.model.state_dict().items():
        assert torch.equal(state.model.state_dict()[key], value), key


def test_a_sum_of_squares_that_overflows_is_told_from_a_gradient():
    state = _state()
    guard = StepGuard(state, World(CPU))
    guard.take_step(torch.zeros(1), _gradients(state, 1e30), "step 1")
    assert guard.rejected().parameters == []


class EndOfTest(Exception):
    """Raised by a loader in place of its end."""


class Recorded:
    """Stands for copies to the host: notes when one is made and when it is read."""

    events: list

    def __init__(self, tensor):
        self.events.append("copy")
        self.shape = tensor.shape

    def read(self):
        self.events.append("read")
        return torch.zeros(self.shape)


def test_a_training_loop_on_meta_reads_nothing_but_late_copies(monkeypatch):
    """On meta any other read raises; each copy is read after the next step's backward pass."""
    events = Recorded.events = []
    monkeypatch.setattr(step_guard, "HostCopy", Recorded)
    backward = torch.Tensor.backward

    def noted(tensor):
        events.append("backward")
        backward(tensor)

    monkeypatch.setattr(torch.Tensor, "backward", noted)
    state, world = _state(device=META), World(META)
    batch = torch.empty(4, 4, device=META), torch.empty(4, dtype=torch.long, device=META)

    def loader():  # ends by an error, before the values that are read after an epoch
        yield from [batch] * 3
        raise EndOfTest

    with Signals() as signals, pytest.raises(EndOfTest):
        hooks = RunHooks(state, 9, world, signals, SimpleNamespace(), skip=True)
        bar = MagicMock(**{"step.return_value": None})
        loop.train_one_epoch(state, state.model, loader(), [0.1] * 9, world, bar, hooks)
    assert events == ["backward", "copy"] + ["backward", "read", "copy"] * 2
