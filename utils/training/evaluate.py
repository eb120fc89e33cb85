"""Evaluate a network once."""

from __future__ import annotations

import math

from utils.datasets.sharding import shard
from utils.runs import checkpoint
from utils.runs.log import Log
from utils.training import loop
from utils.training.context import RunContext
from utils.training.metrics import Scores
from utils.training.out_of_memory import explain_failures
from utils.training.progress import bar_factory


def evaluate(context: RunContext) -> None:
    """Evaluate once and log the scores; with `--rate_stat 1` save all layers' firing rates."""
    if context.resumed:
        where = f"--resume {context.resumed.name}"
        checkpoint.load_weights(context.model, context.resumed.content["state_dict"], where)
    elif not context.pretrained:
        context.world.print_main("note: no --resume, so the network is untrained")
    if context.setting.rate_stat:
        context.model.reset_firing_rates()
    scores = score(context, "test")
    if context.world.is_main:
        context.files.make_folder()
        Log(context.files.log).append([0.0, math.nan, scores.loss, math.nan, scores.top1])
    if context.setting.rate_stat:
        _save_firing_rates(context)


def score(context: RunContext, title: str) -> Scores:
    """Return the scores of the network on the whole test set, and print them after `title`."""
    test = context.data.test
    test.set_epoch(0)
    bars = bar_factory(context.world, context.training.print_freq)
    with explain_failures(context):
        scores = loop.evaluate(context.model, test, context.world, bars(title, test))
    context.world.print_main(
        f"{title} loss {scores.loss:.4f}, top-1 {scores.top1:.2f} %, top-5 {scores.top5:.2f} % "
        f"of {scores.samples:,} samples"
    )
    return scores


def _save_firing_rates(context: RunContext) -> None:
    """Save each layer's mean firing rate over the whole test set."""
    world, samples, path = context.world, context.data.test.num_samples, context.files.firing_rates
    first, last = shard(0, samples, world.rank, world.size)
    local = context.model.firing_rates()
    parts = world.all_gather({layer: rate * (last - first) for layer, rate in local.items()})
    rates = {layer: sum(part.get(layer, 0.0) for part in parts) / samples for layer in local}
    if world.is_main:
        checkpoint.save(path, rates)
        mean = sum(rates.values()) / len(rates)
        world.print_main(f"firing rate {mean:.4f} on average over layers: {path}")
