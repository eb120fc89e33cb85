"""Testing a network once."""

from __future__ import annotations

import math

from utils.datasets.sharding import shard
from utils.runs import checkpoint
from utils.runs.log import Log
from utils.training import loop
from utils.training.context import Run
from utils.training.faults import explained
from utils.training.metrics import Scores
from utils.training.progress import bar_factory


def evaluate(run: Run) -> None:
    """Test once and log it; with `--rate_stat 1` save the firing rates of all neuron layers."""
    if run.content:
        where = f"--resume {run.args.resume}"
        checkpoint.load_weights(run.model, run.content["state_dict"], where)
    elif not run.pretrained:
        run.world.print_main("note: no --resume, so the network is untrained")
    if run.setting.rate_stat:
        run.model.reset_firing_rates()
    scores = score(run, "test")
    if run.world.is_main:
        run.files.make_folder()
        Log(run.files.log).append([0.0, math.nan, scores.loss, math.nan, scores.top1])
    if run.setting.rate_stat:
        _save_firing_rates(run)


def score(run: Run, title: str) -> Scores:
    """Return the scores of the network as it is on the whole test set, and print them."""
    test = run.data.test
    test.set_epoch(0)
    bars = bar_factory(run.world, run.args.print_freq)
    with explained(run):
        scores = loop.evaluate(run.model, test, run.world, bars(title, test))
    run.world.print_main(
        f"{title} loss {scores.loss:.4f}, top-1 {scores.top1:.2f} %, top-5 {scores.top5:.2f} % "
        f"of {scores.samples:,} samples"
    )
    return scores


def _save_firing_rates(run: Run) -> None:
    """Save each layer's average firing rate over the whole test set."""
    world, samples = run.world, run.data.test.num_samples
    first, last = shard(0, samples, world.rank, world.size)
    local = run.model.firing_rates()
    parts = world.all_gather({layer: rate * (last - first) for layer, rate in local.items()})
    rates = {layer: sum(part.get(layer, 0.0) for part in parts) / samples for layer in local}
    if world.is_main:
        checkpoint.save(run.files.firing_rates, rates)
        average = sum(rates.values()) / len(rates)
        world.print_main(
            f"firing rate {average:.4f} on average over layers: {run.files.firing_rates}"
        )
