"""The training loop that every script shares."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F

from utils.distributed import World
from utils.errors import UserError
from utils.metrics import Meter, Scores
from utils.optimizer import set_learning_rate
from utils.progress import Bar, BarFactory
from utils.schedule import Schedule
from utils.training import Training

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


def train_one_epoch(
    model: nn.Module,
    loader: Iterable,
    optimizer: optim.Optimizer,
    rates: Iterable[float],
    world: World,
    bar: Bar,
    parts: int = 1,
) -> Scores:
    """Take a step a batch, at the learning rates `rates`; return the scores met on the way.

    A batch is presented in `parts`, one after another. Raises `UserError` when the loss is no
    longer finite.
    """
    model.train()
    meter = Meter(world.device)
    with bar:
        for rate, (images, labels) in zip(rates, loader, strict=True):
            set_learning_rate(optimizer, rate)
            optimizer.zero_grad(set_to_none=True)
            accumulate(model, images, labels, world, meter, parts)
            optimizer.step()
            _require_finite(bar.step(meter))
    scores = meter.reduce(world)
    _require_finite(scores)
    return scores


def accumulate(
    model: nn.Module, images: Tensor, labels: Tensor, world: World, meter: Meter, parts: int = 1
) -> None:
    """Add the gradient of the mean loss over a batch, of all processes, to that of `model`.

    The batch is cut into `parts`, but none of less than two samples, whose gradients add up before
    they are exchanged: exactly those of the whole but for BatchNorm, which sees a part at a time.
    """
    weight, samples = world.loss_weight(len(labels)), len(labels)
    if parts > 1:  # as many on every process, since BatchNorm may wait for its peers
        parts = max(1, min(parts, world.least(samples) // 2))
    pieces = list(zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True))
    for number, (x, y) in enumerate(pieces, start=1):
        with nullcontext() if number == parts else world.no_exchange(model):
            logits = model(x)
            loss = F.cross_entropy(logits, y)
            (loss * weight * (len(y) / samples)).backward()
        meter.add(loss.detach(), logits.detach(), y)


@torch.no_grad()
def evaluate(model: nn.Module, loader: Iterable, world: World, bar: Bar) -> Scores:
    """Return the scores of `model` in evaluation mode on all batches of `loader`."""
    model.eval()
    meter = Meter(world.device)
    with bar:
        for images, labels in loader:
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
    parts: int = 1,
    compression: str = "none",
) -> None:
    """Train to the end of `schedule`, testing after each epoch.

    `parts` and `compression` are those of `accumulate` and `World.wrap`. `after_epoch` runs on
    every process, since a checkpoint gathers from all of them.
    """
    wrapped = world.wrap(training.model, compression)
    for epoch in range(training.epoch, schedule.epochs):
        started = time.perf_counter()
        train.set_epoch(epoch)
        test.set_epoch(epoch)
        rates = [schedule.at(epoch, training.iteration + step) for step in range(len(train))]
        bar = bars(f"epoch {epoch + 1}/{schedule.epochs} train", train)
        trained = train_one_epoch(wrapped, train, training.optimizer, rates, world, bar, parts)
        world.average_statistics(training.model)
        _require_finite_state(training.model)
        bar = bars(f"epoch {epoch + 1}/{schedule.epochs} test", test)
        tested = evaluate(training.model, test, world, bar)
        is_best = training.advance(len(train), tested.top1)
        seconds = time.perf_counter() - started
        after_epoch(Epoch(schedule.cosine(epoch), trained, tested, is_best, seconds))


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
