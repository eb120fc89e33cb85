import copy
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from tests.utils.stand_ins import Loader, Net
from utils.distributed.world import World
from utils.optimization import optimizer
from utils.optimization.schedule import Schedule
from utils.system import random_state
from utils.system.errors import UserError
from utils.training import loop
from utils.training.hooks import StepHooks
from utils.training.progress import Bar
from utils.training.state import TrainState

WORLD = World(torch.device("cpu"))
SETTINGS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}


def _state(name="SGD"):
    net = Net()
    random_state.seed(1)
    return TrainState(net, optimizer.build(name, net, **SETTINGS))


def _fit(state, epochs=4, after_epoch=lambda result: None, loader=None):
    hooks = StepHooks()
    hooks.after_epoch = after_epoch
    data = SimpleNamespace(
        train=loader or Loader(), selection=Loader((5, 5)), selection_name="test"
    )
    loop.fit(state, data, Schedule(0.1, epochs, warmup=5), WORLD, Bar, hooks)


def _same(one, two):
    return all(torch.equal(one[key], two[key]) for key in one) and one.keys() == two.keys()


class Killed(Exception):
    """Stands for the end of a process."""


def test_an_epoch_is_plain_steps_at_the_schedules_rates():
    state, twin = _state(), Net(dropout=0.0)
    state.model.dropout.p = 0.0
    plain = torch.optim.SGD(twin.parameters(), fused=True, **SETTINGS)
    schedule, seen = Schedule(0.1, 2, warmup=5), []
    for epoch in range(2):
        twin.train()
        loader = Loader()
        loader.set_epoch(epoch)
        for step, (x, y) in enumerate(loader):
            plain.param_groups[0]["lr"] = schedule.at(epoch, 3 * epoch + step)
            plain.zero_grad()
            F.cross_entropy(twin(x), y).backward()
            plain.step()
    _fit(state, epochs=2, after_epoch=seen.append)
    assert _same(state.model.state_dict(), twin.state_dict())
    assert [epoch.learning_rate for epoch in seen] == [schedule.cosine(0), schedule.cosine(1)]
    assert (state.epoch, state.iteration) == (2, 6)


def test_evaluation_changes_nothing_and_means_over_samples():
    net, loader = Net(), Loader((5, 2))
    before = copy.deepcopy(net.state_dict())
    scores = loop.evaluate(net, loader, WORLD, Bar("", loader))
    batches = list(loader)
    x, y = (torch.cat(part) for part in zip(*batches, strict=True))
    assert scores.loss == pytest.approx(F.cross_entropy(net(x), y).item())
    assert scores.top1 == pytest.approx(100 * (net(x).argmax(1) == y).double().mean().item())
    assert scores.samples == 7
    assert _same(net.state_dict(), before)


@pytest.mark.parametrize("name", optimizer.NAMES)
@pytest.mark.parametrize("killed_after", [1, 3])
def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path, name, killed_after):
    whole, broken, path = _state(name), _state(name), tmp_path / "x.pth"
    whole_epochs, epochs = [], []
    _fit(whole, after_epoch=lambda epoch: whole_epochs.append(epoch[:3]))

    def stop(epoch):
        epochs.append(epoch[:3])
        torch.save(broken.snapshot(WORLD), path)
        if broken.epoch == killed_after:
            raise Killed

    random_state.seed(1)
    with pytest.raises(Killed):
        _fit(broken, after_epoch=stop)
    resumed = _state(name)
    resumed.resume(torch.load(path, weights_only=True), 3, WORLD, "x.pth")
    _fit(resumed, after_epoch=lambda epoch: epochs.append(epoch[:3]))
    assert epochs == whole_epochs
    assert _same(resumed.model.state_dict(), whole.model.state_dict())
    assert (resumed.iteration, resumed.best_acc) == (whole.iteration, whole.best_acc)


def test_a_published_checkpoint_is_resumed_from_its_five_keys():
    source = _state()
    _fit(source, epochs=2)
    ours = source.snapshot(WORLD)
    keys = ("epoch", "state_dict", "acc", "best_acc", "optimizer")
    published = {key: ours[key] for key in keys}
    published["best_acc"] = torch.tensor(ours["best_acc"])
    resumed = _state()
    resumed.resume(published, 3, WORLD, "x.pth")
    assert (resumed.epoch, resumed.iteration) == (2, 6)
    assert resumed.best_acc == pytest.approx(source.best_acc)
    assert _same(resumed.model.state_dict(), source.model.state_dict())
    for key, state in source.optimizer.state_dict()["state"].items():
        assert _same(resumed.optimizer.state_dict()["state"][key], state)


@pytest.mark.parametrize("key", ["epoch", "optimizer"])
def test_a_checkpoint_that_cannot_be_gone_on_with_says_what_is_missing(key):
    content = _state().snapshot(WORLD)
    del content[key]
    with pytest.raises(UserError, match=rf"--resume x\.pth.*{key}"):
        _state().resume(content, 3, WORLD, "x.pth")


def test_a_loss_that_is_not_finite_ends_training_before_the_epoch_is_saved():
    saved = []
    with pytest.raises(UserError, match="--lr"):
        _fit(_state(), after_epoch=saved.append, loader=Loader(scale=float("inf")))
    assert saved == []


def test_a_read_of_the_bar_finds_it_within_the_epoch():
    class Reading(Bar):
        def due(self):
            return self.index == 1  # and read a step later

    state, loader = _state(), Loader(scale=float("nan"))
    bar = Reading("", loader)
    with pytest.raises(UserError, match="finite"):
        loop.train_one_epoch(state, state.model, loader, [0.1] * 3, WORLD, bar, StepHooks())
    assert bar.index == 2


def test_the_best_is_the_first_of_equals():
    state = _state()
    assert [state.advance(1, acc) for acc in (10.0, 30.0, 30.0, 20.0)] == [
        True,
        True,
        False,
        False,
    ]
    assert (state.acc, state.best_acc) == (20.0, 30.0)


def test_label_smoothing_is_torchs_and_the_test_loss_stays_plain():
    net, (x, y) = Net(dropout=0.0), next(iter(Loader()))
    loop.compute_gradients(net, x, y, WORLD, label_smoothing=0.1)
    found = {name: parameter.grad for name, parameter in net.named_parameters()}
    net.zero_grad(set_to_none=True)
    torch.nn.CrossEntropyLoss(label_smoothing=0.1)(net(x), y).backward()
    assert all(torch.equal(found[name], p.grad) for name, p in net.named_parameters())
    scores = loop.evaluate(net, [(x, y)], WORLD, Bar("", Loader()))
    assert scores.loss == pytest.approx(F.cross_entropy(net(x), y).item())
