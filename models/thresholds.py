"""Thresholds of an SNN's neurons from the activations of an ANN.

The ReLU `relu<k>` of the ANN corresponds to the neuron layer `relu<k>` of the SNN. The threshold
that is recorded at its input has the name `storein<k>`: `storein1`, `layer1[0].storein2`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.network import SpikingNetwork, layers
from models.neuron import LIFNeuron

_SHOWN = 8  # names in a message


def recording_points(ann: nn.Module) -> dict[str, nn.Module]:
    """Return the ReLUs of `ann` by the names of the thresholds recorded at their inputs."""
    return {_recorded(name): relu for name, relu in layers(ann, nn.ReLU).items()}


@torch.no_grad()
def load_thresholds(snn: SpikingNetwork, thresholds: Mapping[str, Any]) -> None:
    """Set the threshold of every neuron layer; for LIF layers it is multiplied by `delta_t`.

    A value is a tensor of one element or, as in published files, a tuple of one such tensor.
    Raises `ValueError` for the names of another network and for values that are not thresholds.
    """
    neurons = {_recorded(name): neuron for name, neuron in snn.neurons().items()}
    problems = [
        _listed("missing", [name for name in neurons if name not in thresholds]),
        _listed("unexpected", [str(name) for name in thresholds if name not in neurons]),
    ]
    if any(problems):
        raise ValueError(f"thresholds of another network: {'; '.join(filter(None, problems))}")
    values = {name: _value(name, thresholds[name]) for name in neurons}
    for name, neuron in neurons.items():
        scale = snn.setting.delta_t if isinstance(neuron, LIFNeuron) else 1.0
        neuron.Vth.fill_(values[name] * scale)


def _listed(what: str, names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{what} {', '.join(names[:_SHOWN])}{more}" if names else ""


def _recorded(name: str) -> str:
    return name.replace("relu", "storein")


def _value(name: str, entry: Any) -> float:
    """Return the number in `entry`; raises `ValueError` if it is not a single threshold."""
    if isinstance(entry, (tuple, list)) and len(entry) == 1:
        entry = entry[0]
    if isinstance(entry, Tensor) and entry.numel() == 1:
        entry = entry.item()
    if not isinstance(entry, (int, float)) or not math.isfinite(entry) or entry < 0:
        raise ValueError(f"{name} is not a threshold: {str(entry)[:40]}")
    return float(entry)
