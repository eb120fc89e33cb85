from types import SimpleNamespace

import pytest
import torch

from tests.utils.stand_ins import Loader, Net
from utils.distributed.world import World
from utils.optimization import optimizer
from utils.optimization.schedule import Schedule
from utils.system import random_state
from utils.system.errors import UserError
from utils.system.signals import Signals
from utils.training import loop
from utils.training.hooks import RunHooks
from utils.training.progress import Bar
from utils.training.state import TrainState
from utils.training.step_guard import RejectedStep

WORLD = World(torch.device("cpu"))
STEPS = 3


class Spoilt(Loader):
    """Batches of which those at `bad` (epoch, index) are not finite."""

    def __init__(self, bad):
        super().__init__()
        self.bad = bad

    def __iter__(self):
        for index, (x, y) in enumerate(super().__iter__()):
            yield (x * float("nan") if (self.epoch, index) in self.bad else x), y


def _state():
    net = Net(dropout=0.0)
    random_state.seed(1)
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}
    return TrainState(net, optimizer.build("SGD", net, **settings))


class Writer:
    """Notes where `state` is saved, and the results of epochs."""

    def __init__(self, state):
        self.state, self.saved, self.results = state, [], []

    def save_within_epoch(self):
        self.saved.append((self.state.epoch, self.state.step))

    def save_epoch(self, result):
        self.results.append(result)


def _fit(loader, skip=True, save_every=0, epochs=2):
    """Return the state after `epochs`, and the writer."""
    state = _state()
    writer, data = (
        Writer(state),
        SimpleNamespace(train=loader, selection=Loader((5,)), selection_name="test"),
    )
    with Signals() as signals:
        hooks = RunHooks(state, STEPS, WORLD, signals, writer, save_every, skip)
        loop.fit(state, data, Schedule(0.1, epochs), WORLD, Bar, hooks)
    return state, writer


@pytest.mark.parametrize(
    ("every", "places"),
    [(0, []), (1, [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]), (2, [(0, 2), (1, 1), (1, 3)])],
)
def test_saves_come_every_so_many_steps_counted_over_epochs(every, places):
    assert _fit(Loader(), save_every=every)[1].saved == places


def test_a_step_that_is_not_finite_stops_and_names_itself_and_the_images():
    with pytest.raises(UserError, match=r"epoch 2, step 2 of 3: the images .*--on_nan skip"):
        _fit(Spoilt({(1, 1)}), skip=False)


def test_a_skipped_step_leaves_nothing_behind(capsys):
    """Its update, its momentum and its statistics are those of not having been there."""
    bad = {(0, 0), (0, 1), (1, 1)}  # two in a row, and one before a good step
    spoilt, _ = _fit(Spoilt(bad))
    assert spoilt.skipped == 3 and (spoilt.epoch, spoilt.iteration) == (2, 6)
    lines = capsys.readouterr().out.splitlines()
    assert "skipping epoch 1, step 1 of 3: the images" in lines[0] and "2 skipped" in lines[1]
    assert "skipping epoch 2, step 2 of 3: the images" in lines[2]
    plain = _state()
    for epoch in range(2):
        plain.model.train()
        loader = Loader()
        loader.set_epoch(epoch)
        optimizer.set_learning_rate(plain.optimizer, Schedule(0.1, 2).cosine(epoch))
        for x, y in [pair for i, pair in enumerate(loader) if (epoch, i) not in bad]:
            plain.optimizer.zero_grad()
            torch.nn.functional.cross_entropy(plain.model(x), y).backward()
            plain.optimizer.step()
    for key, value in plain.model.state_dict().items():
        assert torch.equal(value, spoilt.model.state_dict()[key]), key
    for one, two in zip(*(t.optimizer.state.values() for t in (plain, spoilt)), strict=True):
        assert torch.equal(one["momentum_buffer"], two["momentum_buffer"])


def test_an_epoch_of_skipped_steps_alone_ends_the_run():
    with pytest.raises(UserError, match="--on_nan skip: no step of epoch 2"):
        _fit(Spoilt({(1, index) for index in range(STEPS)}))


def test_the_epochs_scores_are_of_the_steps_taken():
    loader = Spoilt({(0, 0)})
    (result,) = _fit(loader, epochs=1)[1].results
    assert result.train.samples == sum(loader.sizes[1:])


def test_of_several_processes_the_one_whose_layer_it_is_is_heard(monkeypatch):
    class Second(World):
        def all_gather(self, value):
            return ["all outputs are finite, the gradient of w is not", "the output of layer l"]

    with Signals() as signals:
        hooks = RunHooks(_state(), STEPS, Second(WORLD.device), signals, Writer(None))
    rejected = RejectedStep("step 1", torch.zeros(2, 4), [])
    assert hooks._reason(rejected) == "the output of layer l"
