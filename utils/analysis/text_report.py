"""A report as text for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from utils.analysis.confusion import ClassScores, worst_classes
from utils.analysis.summary import Summary

_WORST = 3


def lines(summary: Summary) -> Iterator[str]:
    """Return the lines of a report."""
    yield from _layers(summary)
    yield ""
    yield from _operations(summary["energy"])
    yield ""
    yield from _latency(summary)
    yield from _quality(summary)


def _layers(summary: Summary) -> Iterator[str]:
    yield (
        f"{'neuron layer':22}{'neurons':>9}{'Vth':>9}{'rate':>8}{'silent':>8}{'satur.':>8}"
        f"{'never':>8}{'error':>8}"
    )
    for layer in summary["layers"]:
        shares = (layer[key] for key in ("firing_rate", "silent", "saturated", "never_fired"))
        yield (
            f"{layer['layer']:22}{layer['neurons']:9,}{layer['Vth']:9.4g}"
            + "".join(f"{percent(share):>8}" for share in shares)
            + f"{percent(layer['representation_error']):>8}"
        )


def _operations(energy: Summary) -> Iterator[str]:
    yield f"{'weights':26}{'':4}{'operations':>14}{'of the ANN':>16}{'energy':>10}{'ANN':>10}"
    total = {
        "layer": "all, per image",
        "kind": "",
        "operations": energy["synaptic_operations"] + energy["macs"],
        "ann_macs": energy["ann_macs"],
        "energy": energy["energy_pj"],
        "ann_energy": energy["ann_energy_pj"],
    }
    for row in [*energy["layers"], total]:
        yield (
            f"{row['layer']:26}{row['kind']:4}{row['operations']:14,.0f}{row['ann_macs']:16,}"
            f"{joules(row['energy']):>10}{joules(row['ann_energy']):>10}"
        )


def _latency(summary: Summary) -> Iterator[str]:
    accuracy = summary["latency"]["accuracy"]
    steps = [t for t in (1, 2, 5, 10, 20) if t < len(accuracy)] + [len(accuracy)]
    found = " ".join(f"{accuracy[t - 1]:.2f}" for t in steps)
    yield f"accuracy (%) after {' '.join(map(str, steps))} steps: {found}"
    if chosen := summary["early_stop"]["chosen"]:
        yield (
            f"stop at confidence {chosen['confidence']:g}: {chosen['accuracy']:.2f} % after "
            f"{chosen['mean_steps']:.2f} steps, {joules(chosen['energy_pj'])} (means per image)"
        )


def _quality(summary: Summary) -> Iterator[str]:
    energy, calibration = summary["energy"], summary["calibration"]
    scores = [ClassScores(**scores) for scores in summary["classes"]["scores"]]
    worst = ", ".join(f"{s.name} {s.recall:.1f} %" for s in worst_classes(scores, _WORST))
    yield f"accuracy {summary['accuracy']:.2f} %, ideal {summary['ideal_accuracy']:.2f} %"
    yield f"expected calibration error {percent(calibration['expected_error'])}"
    yield f"worst classes: {worst}"
    yield f"firing rate {percent(summary['firing_rate'])}, mean over layers"
    yield (
        f"energy per image {joules(energy['energy_pj'])}, ANN {joules(energy['ann_energy_pj'])} "
        f"({energy['ann_energy_pj'] / energy['energy_pj']:.1f} times)"
    )


def percent(share: float | None) -> str:
    """Return a share in percent, a dash for None."""
    return "-" if share is None else f"{100 * share:.2f} %"


def joules(picojoules: float, micro: str = "u") -> str:
    """Return an energy in the unit that leaves one to three digits before the point."""
    return three_digits(picojoules, ("pJ", "nJ", f"{micro}J", "mJ"))


def three_digits(number: float, units: Sequence[str]) -> str:
    """Return a number in the unit, each 1000 of the one before, that leaves three digits."""
    power = sum(number >= 1000**k for k in range(1, len(units)))
    return f"{number / 1000**power:#.3g}".rstrip(".") + f" {units[power]}"
