"""The model card of a checkpoint: what it is, how it was trained, on what, and what it reaches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from utils.analysis.summary import Summary
from utils.analysis.text_report import joules, percent
from utils.system.text import printable

Facts = dict[str, Any]


def render(title: str, facts: Facts, summary: Summary | None) -> str:
    """Return a model card in Markdown; `summary` is None for a network without neurons.

    `facts` are those of `report.describe`.
    """
    sections = (
        (f"# {title}", _network(facts)),
        ("## Results", _results(facts, summary)),
        ("## Data", _data(facts)),
        ("## Training", _training(facts)),
        ("## Arguments", _arguments(facts)),
    )
    return "\n".join("\n".join([heading, "", *lines, ""]) for heading, lines in sections)


def _network(facts: Facts) -> Iterator[str]:
    yield f"- network: `{facts['network']}`, {facts['parameters']:,} parameters"
    yield f"- neurons: {facts['neurons']}"
    yield f"- checkpoint: `{facts['checkpoint']}`, epoch {facts['epoch']}"


def _results(facts: Facts, summary: Summary | None) -> Iterator[str]:
    yield "| on the test data | |"
    yield "|---|---|"
    yield f"| accuracy | {facts['accuracy']:.2f} % |"
    if facts["chosen_on"] == "validation":
        chosen = f"{facts['best_acc']:.2f} %"
        yield f"| accuracy on the validation data, which chose the checkpoint | {chosen} |"
    if average := facts.get("average"):
        validation = average.get("validation_accuracy")
        chosen = "" if validation is None else f" ({validation:.2f} % on the validation data)"
        yield (
            f"| accuracy of the averaged weights in their best epoch | "
            f"{average['accuracy']:.2f} %{chosen} |"
        )
    if summary is None:
        return
    energy = summary["energy"]
    yield f"| images | {summary['images']:,} |"
    yield f"| firing rate, mean over layers | {percent(summary['firing_rate'])} |"
    yield f"| synaptic operations per image | {energy['synaptic_operations']:,.0f} |"
    yield f"| multiply-accumulates per image | {energy['macs']:,.0f} |"
    yield f"| multiply-accumulates of the ANN of the same shape | {energy['ann_macs']:,} |"
    yield (
        f"| energy per image ({energy['mac_pj']:g} pJ per MAC, {energy['ac_pj']:g} per AC) | "
        f"{joules(energy['energy_pj'])}, ANN {joules(energy['ann_energy_pj'])} |"
    )
    calibration = percent(summary["calibration"]["expected_error"])
    yield f"| expected calibration error | {calibration} |"


def _data(facts: Facts) -> Iterator[str]:
    yield f"- {facts['data']}"
    for part, checksum in facts["checksums"].items():
        yield f"- SHA-256 of the {part} samples: `{checksum}`"


def _training(facts: Facts) -> Iterator[str]:
    yield f"- seed: {facts['manualSeed']}"
    yield f"- computation: {facts['engine']}, on {facts['device']}"
    yield f"- commit: {facts['commit'] or 'not a git checkout'}"
    yield f"- versions: {', '.join(f'{k} {v}' for k, v in facts['versions'].items())}"
    yield f"- command: `{facts['command']}`"


def _arguments(facts: Facts) -> Iterator[str]:
    yield "| flag | value |"
    yield "|---|---|"
    for flag, value in facts["args"].items():
        yield f"| {flag} | {_cell(value)} |"


def _cell(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    escaped = printable(text).replace("|", "\\|")
    return f"`{escaped}`" if escaped else ""
