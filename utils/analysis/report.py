"""Reports and model cards: what is written about a network, and where."""

from __future__ import annotations

import json
import math
import shlex
import sys
from pathlib import Path
from typing import Any

from utils.analysis import card, page, text_report
from utils.analysis.flags import ReportFlags
from utils.analysis.observation import Recorder, observe
from utils.analysis.summary import ReportOptions, Summary, summarise
from utils.runs import checkpoint
from utils.runs.checkpoint_keys import CheckpointContent
from utils.runs.paths import RunFiles
from utils.runs.record import commit, extend_record
from utils.system.atomic_write import REMEDY, write_atomically
from utils.system.errors import warn_on_write_error
from utils.training.context import RunContext, device_name
from utils.training.evaluate import score
from utils.training.metrics import Scores

Facts = dict[str, Any]

# What a run record takes from the summary and from its part on energy.
_RESULTS = ("accuracy", "images", "firing_rate")
_ENERGIES = ("synaptic_operations", "macs", "ann_macs", "energy_pj", "ann_energy_pj")


def finish_run(context: RunContext, recorder: Recorder | None, flags: ReportFlags) -> None:
    """Write the model card of a completed run, and with `--report` the report; a collective.

    Both are about the best checkpoint, whose weights are loaded; where validation data chose it,
    this is the only test. After an evaluation, `--report` is about the network evaluated, and
    there is no card. `recorder` is None for a network without neurons.
    """
    if context.training.evaluate:
        if flags.report:
            _report_evaluated(context, recorder, flags.options)
        return
    best = context.files.best
    due = context.world.is_main and (flags.report or _card_is_due(context.files))
    content = context.world.broadcast(checkpoint.load(best) if due and best.exists() else None)
    if content is None:
        return
    checkpoint.load_weights(context.model, content["state_dict"], best.name)
    summary = None if recorder is None else measure(context, recorder, flags.options)
    accuracy = _test_accuracy(context, content, summary)
    average = _average_accuracies(context)
    if context.world.is_main:
        facts = describe(context, best.name, content) | {"accuracy": accuracy, "average": average}
        with warn_on_write_error("the model card"):
            _write_card(context, facts, summary)
        if flags.report:
            write_report(context, best.with_suffix(""), facts, summary)


def _test_accuracy(
    context: RunContext, content: CheckpointContent, summary: Summary | None
) -> float:
    """Return the test accuracy of the best checkpoint, tested if it never was; a collective."""
    chosen = float(content.get(context.keys.best_acc, 0.0))
    if context.data.validation is None:
        return chosen if summary is None else summary["accuracy"]
    title = f"best checkpoint by validation accuracy, {chosen:.2f} %: test"
    if summary is None:
        return score(context, title, context.data.test).top1
    scores = Scores(*(summary[key] for key in ("loss", "accuracy", "top5", "images")))
    context.world.print_main(f"{title} {scores}")
    return scores.top1


def _average_accuracies(context: RunContext) -> dict[str, float] | None:
    """Return what the averaged weights of `--ema` reach in their best epoch; a collective.

    Where validation data chose that epoch, this is their only test.
    """
    file, world = context.files.ema, context.world
    kept = context.training.ema and world.is_main and file.exists()
    content = world.broadcast(checkpoint.load(file) if kept else None)
    if content is None:
        return None
    chosen = float(content[context.keys.best_acc])
    if context.data.validation is None:
        return {"accuracy": chosen}
    checkpoint.load_weights(context.model, content["state_dict"], file.name)
    title = f"averaged weights by validation accuracy, {chosen:.2f} %: test"
    accuracy = score(context, title, context.data.test).top1
    return {"accuracy": accuracy, "validation_accuracy": chosen}


def _card_is_due(files: RunFiles) -> bool:
    """Return whether there is no card yet, or only one from before the run trained on."""
    written = files.card.stat().st_mtime if files.card.exists() else -math.inf
    checkpoints = [file for file in (files.best, files.last) if file.exists()]
    return any(written < file.stat().st_mtime for file in checkpoints)


def _report_evaluated(context: RunContext, recorder: Recorder, options: ReportOptions) -> None:
    resumed = context.resumed
    path = resumed.path.with_suffix("") if resumed else context.files.path("")
    summary = measure(context, recorder, options)
    if context.world.is_main:
        facts = describe(context, path.name, resumed.content if resumed else {})
        write_report(context, path, facts, summary)


def measure(context: RunContext, recorder: Recorder, options: ReportOptions) -> Summary:
    """Return the content of a report on the network in `context`; a collective."""
    data = context.data
    names = data.classes or [str(label) for label in range(data.num_classes)]
    return summarise(observe(context, recorder), names, options)


def describe(context: RunContext, file: str, content: CheckpointContent) -> Facts:
    """Return facts about the checkpoint `file` with this `content`, as for JSON."""
    data, model = context.data, context.model
    checksums = {"training": data.train.checksum(), "test": data.test.checksum()}
    if data.validation is not None:
        checksums["validation"] = data.validation.checksum()
    return {
        **context.facts(),
        "network": context.network,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "neurons": model.neuron_line(),
        "checkpoint": file,
        "epoch": content.get("epoch"),
        "best_acc": float(content.get(context.keys.best_acc, 0.0)),
        "chosen_on": data.selection_name,
        "data": data.description,
        "checksums": checksums,
        "engine": model.engine_line(),
        "device": device_name(context.world),
        "commit": commit(),
        "command": shlex.join(sys.argv),
    }


def write_report(
    context: RunContext, stem: Path, facts: Facts, summary: Summary, remedy: str = REMEDY
) -> None:
    """Print the report, and write it to `<stem>_report.json` and `<stem>_report.html`."""
    for line in text_report.lines(summary):
        context.world.print_main(line)
    title = f"{facts['network']} on {facts['dataset']}"
    subtitle = f"{facts['checkpoint']}: {facts['neurons']}"
    html = page.render(summary, title, subtitle, _shown(facts))
    lines = (
        f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in (facts | summary).items()
    )
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    written = []
    for suffix, part in (("json", text), ("html", html)):
        path = stem.with_name(f"{stem.name}_report.{suffix}")
        encoded = part.encode(errors="backslashreplace")
        write_atomically(path, lambda file, encoded=encoded: file.write(encoded), remedy)
        written.append(str(path))
    context.world.print_main(f"report: {', '.join(written)}")


def _write_card(context: RunContext, facts: Facts, summary: Summary | None) -> None:
    title = f"{facts['network']} on {facts['dataset']}"
    text = card.render(title, facts, summary).encode(errors="backslashreplace")
    write_atomically(context.files.card, lambda file: file.write(text))
    results = {"accuracy": facts["accuracy"]}
    if facts["chosen_on"] == "validation":
        results["validation_accuracy"] = facts["best_acc"]
    if summary is not None:
        results |= {key: summary[key] for key in _RESULTS}
        results |= {key: summary["energy"][key] for key in _ENERGIES}
    if facts["average"]:
        results["average"] = facts["average"]
    about = {key: facts[key] for key in ("checkpoint", "epoch", "checksums", "device")}
    extend_record(context.files.record, {"card": about | results})
    context.world.print_main(f"model card: {context.files.card}")


def _shown(facts: Facts) -> dict[str, str]:
    """Return the facts that the page shows, by the names it gives them."""
    return {
        "checkpoint": f"{facts['checkpoint']}, epoch {facts['epoch']}",
        "network": f"{facts['network']}, {facts['parameters']:,} parameters",
        "neurons": facts["neurons"],
        "data": facts["data"],
        "test samples": f"SHA-256 {facts['checksums']['test']}",
        "computation": f"{facts['engine']}; {facts['device']}",
        "seed": str(facts["manualSeed"]),
        "commit": facts["commit"] or "not a git checkout",
        "versions": ", ".join(f"{name} {v}" for name, v in facts["versions"].items()),
        "command": facts["command"],
    }
