"""The training loop that all scripts share."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.datasets.loader import Data
from utils.distributed.world import World
from utils.optimization.optimizer import set_learning_rate
from utils.optimization.schedule import Schedule
from utils.system.errors import UserError
from utils.training.hooks import StepHooks
from utils.training.metrics import EpochResult, Meter, Scores
from utils.training.progress import Bar, BarFactory, RunClock
from utils.training.state import TrainState

_DIVERGED = (
    "{} is no longer finite: lower --lr or lengthen --warmup; the checkpoint of the last whole "
    "epoch is kept"
)


def fit(
    state: TrainState,
    data: Data,
    schedule: Schedule,
    world: World,
    bars: BarFactory,
    hooks: StepHooks | None = None,
    parts: int = 1,
    compression: str = "none",
    label_smoothing: float = 0.0,
) -> None:
    """Train `state.model` to the end of `schedule`, and score it on `data.selection` each epoch.

    `parts` and `label_smoothing` are those of `compute_gradients`, `compression` that of
    `World.wrap`.
    """
    wrapped, hooks = world.wrap(state.model, compression), hooks or StepHooks()
    train, test, clock = data.train, data.selection, RunClock(schedule.epochs)
    for epoch in range(state.epoch, schedule.epochs):
        started, title = time.perf_counter(), f"epoch {epoch + 1}/{schedule.epochs}"
        train.set_epoch(epoch)
        test.set_epoch(epoch)
        rates = [schedule.at(epoch, state.iteration + step) for step in range(len(train))]
        share = 1 - state.step / len(train)  # less than 1 where a run was resumed
        clock.start_epoch(epoch, share)
        if state.step < len(train):
            bar = bars(f"{title} train", train, clock)
            options = parts, label_smoothing
            train_one_epoch(state, wrapped, train, rates, world, bar, hooks, *options)
        else:  # resumed after the last step, whose learning rate is the optimizer's
            set_learning_rate(state.optimizer, rates[-1])
        trained = state.meter.reduce(world)
        speed = share * trained.samples / (time.perf_counter() - started)
        title = f"{title} {data.selection_name}"
        bar = bars(title, test, clock)
        tested, average = evaluate(state.model, test, world, bar, hooks.stops_evaluation), None
        if state.ema:
            bar = bars(f"{title} of the average", test, clock)
            average = evaluate(state.ema.model, test, world, bar, hooks.stops_evaluation)
        hooks.after_evaluation()
        is_best = state.advance(len(train), tested.top1)
        average_is_best = average is not None and state.ema.advance(average.top1)
        seconds = time.perf_counter() - started
        clock.end_epoch()
        rate = schedule.cosine(epoch)
        result = EpochResult(rate, trained, tested, is_best, seconds, speed)
        hooks.after_epoch(result._replace(ema=average, ema_is_best=average_is_best))


def train_one_epoch(
    state: TrainState,
    model: nn.Module,
    loader: Iterable,
    rates: Sequence[float],
    world: World,
    bar: Bar,
    hooks: StepHooks,
    parts: int = 1,
    label_smoothing: float = 0.0,
) -> None:
    """Take one step per batch, from `state.step` on; `model` is the wrapped `state.model`.

    `rates` are the learning rates of all steps of the epoch. With a GPU, the host only waits for
    values that were computed a step ago. Raises `UserError` when the loss, a parameter or a running
    statistic is no longer finite.
    """
    if state.step:
        loader.begin_at(state.step)
        bar.begin_at(state.step)
    else:
        state.meter = Meter(world.device)
    model.train()
    with bar:
        for rate, (images, labels) in zip(rates[state.step :], loader, strict=True):
            set_learning_rate(state.optimizer, rate)
            hooks.before_step()
            inputs = model, images, labels, world, parts, label_smoothing
            meter = compute_gradients(*inputs)
            if not hooks.settle_step():  # it was computed from statistics that are now undone
                meter = compute_gradients(*inputs)
            hooks.take_step(state, images, meter)
            state.step += 1
            _require_finite(bar.step(state.meter))
            hooks.after_step()
    hooks.settle_step()
    for averaged in (state.model, state.ema.model) if state.ema else (state.model,):
        world.average_running_statistics(averaged)
    _require_finite_state(state.model)
    _require_finite(state.meter.reduce(world))
    hooks.after_training()


def compute_gradients(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    world: World,
    parts: int = 1,
    label_smoothing: float = 0.0,
) -> Meter:
    """Set the gradients of `model` to those of the mean loss over a batch of all ranks.

    `images` and `labels` are this rank's share of the batch; returns its loss and hits. The share
    is presented in `parts`, each of at least two samples, and the gradients accumulate before they
    are averaged: the result is that of the whole share, except that BatchNorm sees one part at a
    time. `label_smoothing` is the share of the target that is spread over all classes, as in
    `torch.nn.functional.cross_entropy`.
    """
    model.zero_grad(set_to_none=True)
    meter = Meter(world.device)
    weight, samples = world.loss_weight(len(labels)), len(labels)
    if parts > 1:  # the same number on every rank, since BatchNorm may synchronize them
        parts = max(1, min(parts, world.all_reduce_min(samples) // 2))
    pieces = list(zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True))
    for number, (x, y) in enumerate(pieces, start=1):
        with nullcontext() if number == parts else world.no_sync(model):
            logits = model(x)
            loss = F.cross_entropy(logits, y, label_smoothing=label_smoothing)
            (loss * weight * (len(y) / samples)).backward()
        meter.add(loss.detach(), logits.detach(), y)
    return meter


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loader: Iterable,
    world: World,
    bar: Bar,
    stops: Callable[[], bool] = lambda: False,
) -> Scores:
    """Return the scores of `model` in evaluation mode over the batches of `loader` on all ranks.

    Ends early once `stops()` is true.
    """
    model.eval()
    meter = Meter(world.device)
    with bar:
        for images, labels in loader:
            if stops():
                break
            logits = model(images)
            meter.add(F.cross_entropy(logits, labels), logits, labels)
            bar.step(meter)
    return meter.reduce(world)


def _require_finite(scores: Scores | None) -> None:
    if scores is not None and not math.isfinite(scores.loss):
        raise UserError(_DIVERGED.format("the training loss"))


def _require_finite_state(model: nn.Module) -> None:
    """Raise `UserError` for a parameter or running statistic that is not finite.

    The loss may stay finite: a spiking neuron whose membrane potential is NaN never fires.
    """
    state = {key: value for key, value in model.state_dict().items() if value.is_floating_point()}
    finite = torch.stack([value.isfinite().all() for value in state.values()])
    for key, is_finite in zip(state, finite.tolist(), strict=True):
        if not is_finite:
            raise UserError(_DIVERGED.format(key))
