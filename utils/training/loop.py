"""The training loop that every script shares."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.distributed.world import World
from utils.system.errors import UserError
from utils.training.metrics import Meter, Scores
from utils.training.optimizer import set_learning_rate
from utils.training.progress import Bar, BarFactory
from utils.training.schedule import Schedule
from utils.training.state import Training

_DIVERGED = (
    "{} is no longer finite: lower --lr or lengthen --warmup; the checkpoint of the last whole "
    "epoch is kept"
)


class Epoch(NamedTuple):
    """What an epoch brought; `is_best` when its test accuracy was the highest so far."""

    learning_rate: float
    train: Scores
    test: Scores
    is_best: bool
    seconds: float


class Watch:
    """What happens between the steps; this watch lets all of them pass and does nothing.

    All but `interrupts` are called on every process at the same places.
    """

    def before_step(self) -> None:
        """Called before each step."""

    def passes(self, images: Tensor, loss: Tensor) -> bool:
        """Return whether a step may be taken, given its gradients."""
        return True

    def after_step(self) -> None:
        """Called after each step, counted already."""

    def after_steps(self) -> None:
        """Called after the last step of an epoch, once the running statistics are averaged."""

    def interrupts(self) -> bool:
        """Return whether an evaluation should end early."""
        return False

    def after_evaluation(self) -> None:
        """Called after an epoch's evaluation, which may have ended early."""


def train_one_epoch(
    training: Training,
    model: nn.Module,
    loader: Iterable,
    rates: Iterable[float],
    world: World,
    bar: Bar,
    watch: Watch,
    parts: int = 1,
) -> None:
    """Take a step a batch, at the learning rates `rates`; `model` is the training's, wrapped.

    A batch is presented in `parts`, one after another. Raises `UserError` when the loss is no
    longer finite.
    """
    model.train()
    with bar:
        for rate, (images, labels) in zip(rates, loader, strict=True):
            watch.before_step()
            set_learning_rate(training.optimizer, rate)
            training.optimizer.zero_grad(set_to_none=True)
            met = accumulate(model, images, labels, world, parts)
            if watch.passes(images, met.loss()):
                training.optimizer.step()
                training.meter.merge(met)
            training.step += 1
            _require_finite(bar.step(training.meter))
            watch.after_step()


def accumulate(
    model: nn.Module, images: Tensor, labels: Tensor, world: World, parts: int = 1
) -> Meter:
    """Add the gradient of the mean loss over a batch, of all processes, to that of `model`.

    Returns what was met in this process's part of it, `images` and `labels`.

    That is cut into `parts`, but none of less than two samples, whose gradients add up before
    they are exchanged: exactly those of the whole but for BatchNorm, which sees a part at a time.
    """
    meter = Meter(world.device)
    weight, samples = world.loss_weight(len(labels)), len(labels)
    if parts > 1:  # as many on every process, since BatchNorm may wait for its peers
        parts = max(1, min(parts, world.all_reduce_min(samples) // 2))
    pieces = list(zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True))
    for number, (x, y) in enumerate(pieces, start=1):
        with nullcontext() if number == parts else world.no_sync(model):
            logits = model(x)
            loss = F.cross_entropy(logits, y)
            (loss * weight * (len(y) / samples)).backward()
        meter.add(loss.detach(), logits.detach(), y)
    return meter


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loader: Iterable,
    world: World,
    bar: Bar,
    interrupts: Callable[[], bool] = lambda: False,
) -> Scores:
    """Return the scores of `model` in evaluation mode on the batches of `loader`.

    These are all, unless `interrupts` says before one that this is the end.
    """
    model.eval()
    meter = Meter(world.device)
    with bar:
        for images, labels in loader:
            if interrupts():
                break
            logits = model(images)
            meter.add(F.cross_entropy(logits, labels), logits, labels)
            bar.step(meter)
    return meter.reduce(world)


def fit(
    training: Training,
    train: Iterable,
    test: Iterable,
    schedule: Schedule,
    world: World,
    bars: BarFactory,
    after_epoch: Callable[[Epoch], None],
    watch: Watch | None = None,
    parts: int = 1,
    compression: str = "none",
) -> None:
    """Train to the end of `schedule`, testing after each epoch.

    `parts` and `compression` are those of `accumulate` and `World.wrap`. `after_epoch` runs on
    every process, since a checkpoint gathers from all of them.
    """
    wrapped, watch = world.wrap(training.model, compression), watch or Watch()
    for epoch in range(training.epoch, schedule.epochs):
        started = time.perf_counter()
        train.set_epoch(epoch)
        test.set_epoch(epoch)
        rates = [schedule.at(epoch, training.iteration + step) for step in range(len(train))]
        if training.step == len(train):  # resumed after the last step, which left its rate behind
            set_learning_rate(training.optimizer, rates[-1])
        else:
            bar = bars(f"epoch {epoch + 1}/{schedule.epochs} train", train)
            _train_rest(training, wrapped, train, rates, world, bar, watch, parts)
        trained = training.meter.reduce(world)
        bar = bars(f"epoch {epoch + 1}/{schedule.epochs} test", test)
        tested = evaluate(training.model, test, world, bar, watch.interrupts)
        watch.after_evaluation()
        is_best = training.advance(len(train), tested.top1)
        seconds = time.perf_counter() - started
        after_epoch(Epoch(schedule.cosine(epoch), trained, tested, is_best, seconds))


def _train_rest(
    training: Training,
    model: nn.Module,
    loader: Iterable,
    rates: list[float],
    world: World,
    bar: Bar,
    watch: Watch,
    parts: int,
) -> None:
    """Take the steps of an epoch that a checkpoint has not seen yet."""
    if training.step:
        loader.begin_at(training.step)
        bar.index = training.step
    else:
        training.meter = Meter(world.device)
    train_one_epoch(training, model, loader, rates[training.step :], world, bar, watch, parts)
    world.average_running_statistics(training.model)
    _require_finite_state(training.model)
    _require_finite(training.meter.reduce(world))
    watch.after_steps()


def _require_finite(scores: Scores | None) -> None:
    if scores is not None and not math.isfinite(scores.loss):
        raise UserError(_DIVERGED.format("the training loss"))


def _require_finite_state(model: nn.Module) -> None:
    """Raise `UserError` for a parameter or statistic that is not finite.

    The loss does not tell: a spiking neuron whose membrane is not a number is merely silent.
    """
    state = {key: value for key, value in model.state_dict().items() if value.is_floating_point()}
    finite = torch.stack([value.isfinite().all() for value in state.values()])
    for key, fine in zip(state, finite.tolist(), strict=True):
        if not fine:
            raise UserError(_DIVERGED.format(key))
