"""Evaluate a network once."""

from __future__ import annotations

from utils.datasets.loader import Loader
from utils.datasets.sharding import shard
from utils.runs import checkpoint
from utils.runs.evaluation_table import Evaluation, append_evaluation
from utils.runs.log import Log, evaluation_row
from utils.training import loop
from utils.training.context import RunContext
from utils.training.metrics import Scores
from utils.training.out_of_memory import explain_failures
from utils.training.progress import bar_factory


def evaluate(context: RunContext) -> None:
    """Evaluate once and append the scores to the run's table of evaluations.

    With `--rate_stat 1` saves all layers' firing rates, with `--log_evaluation` appends to the log.
    """
    if context.resumed:
        where = f"--resume {context.resumed.name}"
        checkpoint.load_weights(context.model, context.resumed.content["state_dict"], where)
    elif not context.pretrained:
        context.world.print_main("note: no --resume, so the network is untrained")
    if context.setting.rate_stat:
        context.model.reset_firing_rates()
    scores = score(context, "test", context.data.test)
    rates = mean_firing_rates(context, context.data.test) if context.setting.rate_stat else {}
    if context.world.is_main:
        _save(context, scores, rates)


def _save(context: RunContext, scores: Scores, rates: dict[str, float]) -> None:
    """Write the scores, and the firing rates if they were recorded."""
    files, mean = context.files, sum(rates.values()) / len(rates) if rates else None
    files.make_folder()
    if rates:
        checkpoint.save(files.firing_rates, rates)
        context.world.print_main(
            f"firing rate {mean:.4f} on average over layers: {files.firing_rates}"
        )
    append_evaluation(
        files.evaluation,
        Evaluation(
            context.resumed_name or context.pretrained or "untrained",
            context.timesteps,
            scores.loss,
            scores.top1,
            scores.top5,
            scores.samples,
            mean,
        ),
    )
    if context.training.log_evaluation:
        Log(files.log).append(evaluation_row(scores.loss, scores.top1))


def score(context: RunContext, title: str, data: Loader) -> Scores:
    """Return the scores of the network on all of `data`, and print them after `title`."""
    data.set_epoch(0)
    bars = bar_factory(context.world, context.training.print_freq)
    with explain_failures(context):
        scores = loop.evaluate(context.model, data, context.world, bars(title, data))
    context.world.print_main(f"{title} {scores}")
    return scores


def mean_firing_rates(context: RunContext, data: Loader) -> dict[str, float]:
    """Return each layer's mean firing rate over all of `data`, evaluated before; a collective."""
    world, samples = context.world, data.num_samples
    first, last = shard(0, samples, world.rank, world.size)
    local = context.model.firing_rates()
    parts = world.all_gather({layer: rate * (last - first) for layer, rate in local.items()})
    return {layer: sum(part.get(layer, 0.0) for part in parts) / samples for layer in local}
