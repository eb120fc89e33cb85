import copy

import pytest
import torch
from torch.nn import functional as F

from tests.utils.stand_ins import Loader, Net
from utils.distributed.world import World
from utils.system import random_state
from utils.system.errors import UserError
from utils.training import loop, optimizer
from utils.training.metrics import Meter
from utils.training.progress import Bar
from utils.training.schedule import Schedule
from utils.training.state import Training

WORLD = World(torch.device("cpu"))
SETTINGS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}


def _training(name="SGD"):
    net = Net()
    random_state.seed(1)
    return Training(net, optimizer.build(name, net, **SETTINGS))


def _fit(training, epochs=4, after_epoch=lambda epoch: None, loader=None):
    schedule = Schedule(0.1, epochs, warmup=5)
    loader = loader or Loader()
    loop.fit(training, loader, Loader((5, 5)), schedule, WORLD, Bar, after_epoch)


def _same(one, two):
    return all(torch.equal(one[key], two[key]) for key in one) and one.keys() == two.keys()


class Killed(Exception):
    """Stands for the end of a process."""


def test_an_epoch_is_plain_steps_at_the_schedules_rates():
    training, twin = _training(), Net(dropout=0.0)
    training.model.dropout.p = 0.0
    plain = torch.optim.SGD(twin.parameters(), **SETTINGS)
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
    _fit(training, epochs=2, after_epoch=seen.append)
    assert _same(training.model.state_dict(), twin.state_dict())
    assert [epoch.learning_rate for epoch in seen] == [schedule.cosine(0), schedule.cosine(1)]
    assert (training.epoch, training.iteration) == (2, 6)


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
    whole, broken, path = _training(name), _training(name), tmp_path / "x.pth"
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
    resumed = _training(name)
    resumed.resume(torch.load(path, weights_only=True), 3, WORLD, "x.pth")
    _fit(resumed, after_epoch=lambda epoch: epochs.append(epoch[:3]))
    assert epochs == whole_epochs
    assert _same(resumed.model.state_dict(), whole.model.state_dict())
    assert (resumed.iteration, resumed.best_acc) == (whole.iteration, whole.best_acc)


def test_a_published_checkpoint_is_resumed_from_its_five_keys():
    source = _training()
    _fit(source, epochs=2)
    ours = source.snapshot(WORLD)
    keys = ("epoch", "state_dict", "acc", "best_acc", "optimizer")
    published = {key: ours[key] for key in keys}
    published["best_acc"] = torch.tensor(ours["best_acc"])
    resumed = _training()
    resumed.resume(published, 3, WORLD, "x.pth")
    assert (resumed.epoch, resumed.iteration) == (2, 6)
    assert resumed.best_acc == pytest.approx(source.best_acc)
    assert _same(resumed.model.state_dict(), source.model.state_dict())
    for key, state in source.optimizer.state_dict()["state"].items():
        assert _same(resumed.optimizer.state_dict()["state"][key], state)


@pytest.mark.parametrize("key", ["epoch", "optimizer"])
def test_a_checkpoint_that_cannot_be_gone_on_with_says_what_is_missing(key):
    content = _training().snapshot(WORLD)
    del content[key]
    with pytest.raises(UserError, match=rf"--resume x\.pth.*{key}"):
        _training().resume(content, 3, WORLD, "x.pth")


def test_a_loss_that_is_not_finite_ends_training_before_the_epoch_is_saved():
    saved = []
    with pytest.raises(UserError, match="--lr"):
        _fit(_training(), after_epoch=saved.append, loader=Loader(scale=float("inf")))
    assert saved == []


def test_a_read_of_the_bar_finds_it_within_the_epoch():
    class Reading(Bar):
        def due(self):
            return self.index == 2

    training, loader = _training(), Loader(scale=float("nan"))
    training.meter, bar = Meter(WORLD.device), Reading("", loader)
    with pytest.raises(UserError, match="finite"):
        loop.train_one_epoch(training, training.model, loader, [0.1] * 3, WORLD, bar, loop.Watch())
    assert bar.index == 2


def test_the_best_is_the_first_of_equals():
    training = _training()
    assert [training.advance(1, acc) for acc in (10.0, 30.0, 30.0, 20.0)] == [
        True,
        True,
        False,
        False,
    ]
    assert (training.acc, training.best_acc) == (20.0, 30.0)
