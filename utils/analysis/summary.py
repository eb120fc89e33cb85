"""The content of a report, from the measurements of a network: numbers and names, as for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from utils.analysis.calibration import expected_calibration_error, reliability
from utils.analysis.confusion import class_scores, confusion_matrix, worst_confusions
from utils.analysis.energy import Prices
from utils.analysis.latency import (
    CONFIDENCES,
    EarlyStop,
    accuracy_by_step,
    early_stop,
    operations_by_step,
)
from utils.analysis.measurements import LayerSums, Measured, Measurements

Summary = dict[str, Any]

_CONFUSIONS = 20  # the most frequent pairs of classes that are listed


@dataclass(frozen=True)
class ReportOptions:
    """The flags of a report: a confidence at which images stop early, and energies."""

    stop_confidence: float | None = None
    prices: Prices = Prices()


def summarise(measured: Measured, classes: Sequence[str], options: ReportOptions) -> Summary:
    """Return the content of a report on these measurements, without the facts about the run."""
    m, scores = measured.measurements, measured.scores
    layers = [_layer(name, sums, measured.thresholds[name]) for name, sums in m.layers.items()]
    return {
        "accuracy": scores.top1,
        "top5": scores.top5,
        "loss": scores.loss,
        "images": m.images,
        "timesteps": m.timesteps,
        "ideal_accuracy": _percent(m.ideal_predictions == m.labels),
        "firing_rate": sum(layer["firing_rate"] for layer in layers) / len(layers),
        "spikes": sum(layer["spikes"] for layer in layers) / m.images,
        "layers": layers,
        "energy": _energy(m, options.prices),
        "latency": {"accuracy": accuracy_by_step(m), "operations": operations_by_step(m)},
        "early_stop": _early_stop(m, options),
        "calibration": _calibration(m),
        "classes": _classes(m, classes),
    }


def _layer(name: str, sums: LayerSums, Vth: float) -> Summary:
    pairs = sums.neurons * sums.images
    size = math.sqrt(sums.squared_ideal)
    return {
        "layer": name,
        "shape": list(sums.has_fired.shape),
        "neurons": sums.neurons,
        "Vth": Vth,
        "spikes": sums.spikes,
        "firing_rate": sums.rate,
        "rate_by_step": [n / pairs for n in sums.spikes_per_step.tolist()],
        "never_fired": 1 - int(sums.has_fired.sum()) / sums.neurons,
        "silent": sums.silent / pairs,
        "saturated": sums.saturated / pairs,
        "representation_error": math.sqrt(sums.squared_error) / size if size else None,
        "representation_bias": sums.error / math.sqrt(pairs) / size if size else None,
    }


def _energy(m: Measurements, prices: Prices) -> Summary:
    layers = prices.layers(m)
    total, ann = (sum(getattr(layer, key) for layer in layers) for key in ("energy", "ann_energy"))
    operations = {
        kind: sum(layer.operations for layer in layers if layer.kind == kind)
        for kind in ("AC", "MAC")
    }
    return {
        "mac_pj": prices.mac,
        "ac_pj": prices.ac,
        "synaptic_operations": operations["AC"],
        "macs": operations["MAC"],
        "ann_macs": sum(layer.ann_macs for layer in layers),
        "energy_pj": total,
        "ann_energy_pj": ann,
        "layers": [layer._asdict() for layer in layers],
    }


def _early_stop(m: Measurements, options: ReportOptions) -> Summary:
    curve = [_stop(m, early_stop(m, p), options.prices) for p in CONFIDENCES]
    p = options.stop_confidence
    return {
        "curve": [{k: v for k, v in stop.items() if k != "stopped"} for stop in curve],
        "chosen": None if p is None else _stop(m, early_stop(m, p), options.prices),
    }


def _stop(m: Measurements, stop: EarlyStop, prices: Prices) -> Summary:
    energy = prices.stopped(m, stop.operations, stop.mean_steps)
    return {**stop._asdict(), "energy_pj": energy}


def _calibration(m: Measurements) -> Summary:
    bins = reliability(m.confidences[-1], m.predictions[-1] == m.labels)
    error = expected_calibration_error(bins)
    return {"expected_error": error, "bins": [b._asdict() for b in bins]}


def _classes(m: Measurements, names: Sequence[str]) -> Summary:
    matrix = confusion_matrix(m.labels, m.predictions[-1], len(names))
    confusions = worst_confusions(matrix, list(names), _CONFUSIONS)
    return {
        "confusion": matrix.tolist(),
        "scores": [scores._asdict() for scores in class_scores(matrix, list(names))],
        "most_confused": [
            {"label": label, "prediction": prediction, "images": images}
            for label, prediction, images in confusions
        ],
    }


def _percent(correct: Tensor) -> float:
    return 100 * int(correct.sum()) / len(correct)
