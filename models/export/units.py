"""A network as units with binary spikes: BatchNorm and amplitudes multiplied into the weights.

A neuron layer with the BatchNorm and the linear maps `A_j` before it becomes one unit. With its
inputs `a_j * s_j`, spikes `s_j` in {0, 1} of amplitude `a_j`, and BatchNorm as `slope * y + shift`,

    z = slope * sum_j A_j(a_j * s_j) + shift = sum_j A'_j(s_j) + bias

where `A'_j` is `A_j` with its last weight times `slope * a_j` (docs/export.md, section 2).
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn

from models.export.layer_graph import (
    ExportError,
    calls,
    is_addition,
    layer_graph,
    require_spiking,
    thresholds,
)
from models.network import SpikingNetwork
from models.neuron import Neuron

IMAGES = "images"  # the source of the first unit

_WEIGHTED = (nn.Conv2d, nn.Linear)
_SHAPING = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten)
_WITHOUT_EFFECT = (nn.Dropout, nn.Identity)  # in evaluation mode
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True)
class Branch:
    """Linear layers, by name and without biases, from the spikes of `source` to a current.

    `channels` is that of the current, which is still to be multiplied with `scale`, a scalar or
    `(channels,)`; `flat` tells that it has no height and width. In a `Unit` the last layer has
    weights and the scale is 1.
    """

    source: str
    layers: tuple[tuple[str, nn.Module], ...]
    channels: int
    flat: bool
    scale: Tensor


@dataclass(frozen=True)
class Unit:
    """A neuron layer: `z` is the sum of its branches, each `(N, channels, ...)`, and of `bias`."""

    name: str
    branches: tuple[Branch, ...]
    bias: Tensor  # (channels,)
    Vth: float


@dataclass(frozen=True)
class _Current:
    """A sum of branches and of a shift, a scalar or `(channels,)`; 0.0 for none."""

    branches: tuple[Branch, ...]
    shift: Tensor | float = 0.0


def units(network: SpikingNetwork) -> list[Unit]:
    """Return the units of `network` in evaluation mode, the last one's spikes being its output.

    Weights are computed in float64 and given in the network's own type. Raises `ExportError` for
    layers that no unit can hold.
    """
    require_spiking(network)
    found: list[Unit] = []
    taken: set[str] = set()
    current: dict[fx.Node, _Current] = {}
    graph = layer_graph(network)
    Vth = thresholds(network)
    unit_scale = torch.ones((), dtype=torch.float64)
    images = _Current((Branch(IMAGES, (), network.in_channels, False, unit_scale),))
    current |= {node: images for node in graph.nodes if node.op == "placeholder"}
    for node in calls(graph):
        inputs = [current[argument] for argument in node.args]
        if is_addition(node):
            current[node] = _sum(*inputs)
            continue
        module = network.get_submodule(node.target)
        if isinstance(module, Neuron):
            unit = _unit(node.target, inputs[0], Vth[node.target], taken)
            amplitude = module.dynamics.amplitude * Vth[node.target].double()
            flat = unit.branches[0].flat
            spikes = Branch(unit.name, (), len(unit.bias), flat, amplitude)
            found.append(unit)
            current[node] = _Current((spikes,))
        else:
            current[node] = _apply(node.target, module, inputs[0])
    (output,) = (node for node in graph.nodes if node.op == "output")
    if not found or output.args[0].target != found[-1].name:
        raise ExportError("its output is not that of its last neuron layer")
    return found


def identifier(name: str) -> str:
    """Return a layer's name as a name without dots: `layer1_0_conv1`."""
    return re.sub(r"\W", "_", name)


def _sum(a: _Current, b: _Current) -> _Current:
    return _Current(a.branches + b.branches, a.shift + b.shift)


def _apply(name: str, module: nn.Module, current: _Current) -> _Current:
    """Return the current after a layer."""
    if isinstance(module, _WITHOUT_EFFECT):
        return current
    if isinstance(module, _NORMS):
        slope, shift = _affine(name, module)
        branches = tuple(replace(b, scale=b.scale * slope) for b in current.branches)
        return _Current(branches, current.shift * slope + shift)
    if not isinstance(module, _WEIGHTED + _SHAPING):
        raise ExportError(f"layer {name} is a {type(module).__name__}, which is not linear")
    branch = current.branches[0]
    moves = branch.scale.dim() > 0 or isinstance(current.shift, Tensor)
    if len(current.branches) > 1 or (moves and not _keeps_constants(module)):
        raise ExportError(f"layer {name} follows a sum, bias or BatchNorm without neurons between")
    layer, bias = copy.deepcopy(module), getattr(module, "bias", None)
    shift = current.shift if bias is None else bias.detach().double()
    if bias is not None:
        layer.bias = None
    channels = getattr(module, "out_channels", getattr(module, "out_features", branch.channels))
    flat = branch.flat or isinstance(module, (nn.Flatten, nn.Linear))
    layers = (*branch.layers, (name, layer))
    branch = replace(branch, layers=layers, channels=channels, flat=flat)
    return _Current((branch,), shift)


def _keeps_constants(module: nn.Module) -> bool:
    """Return whether a layer commutes with a factor and a shift per channel: averages do."""
    averages = isinstance(module, nn.AvgPool2d) and module.divisor_override is None
    return isinstance(module, nn.AdaptiveAvgPool2d) or (averages and module.padding in (0, (0, 0)))


def _affine(name: str, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return `(slope, shift)` of a BatchNorm with its running statistics, float64."""
    if norm.running_var is None:
        raise ExportError(f"layer {name} keeps no running statistics")
    slope = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.affine:
        slope = slope * norm.weight.detach().double()
    shift = -norm.running_mean.double() * slope
    return slope, shift + norm.bias.detach().double() if norm.affine else shift


def _unit(name: str, current: _Current, Vth: Tensor, taken: set[str]) -> Unit:
    branches = tuple(_closed(name, branch, Vth.dtype, taken) for branch in current.branches)
    channels = branches[0].channels
    shift = torch.as_tensor(current.shift, dtype=torch.float64, device=Vth.device)
    return Unit(name, branches, shift.expand(channels).to(Vth.dtype), Vth.item())


def _closed(unit: str, branch: Branch, dtype: torch.dtype, taken: set[str]) -> Branch:
    """Return `branch` with its scale in the weights of its last layer, added where none has any.

    That layer is a copy; its name is none of those `taken`, to which it is added.
    """
    if branch.layers and isinstance(branch.layers[-1][1], _WEIGHTED):
        name, last = branch.layers[-1][0], copy.deepcopy(branch.layers[-1][1])
        before = branch.layers[:-1]
    elif branch.flat:
        raise ExportError(f"neurons {unit} have no weights between them and {branch.source}")
    else:
        name, before = f"{branch.source}_to_{unit}", branch.layers
        last = nn.Conv2d(branch.channels, branch.channels, 1, groups=branch.channels, bias=False)
        last.weight = nn.Parameter(torch.ones_like(last.weight, device=branch.scale.device))
    if name in taken:
        name = f"{name}_to_{unit}"
    taken.add(name)
    scale = branch.scale.expand(branch.channels)
    weight = last.weight.detach().double() * scale.view(-1, *[1] * (last.weight.dim() - 1))
    last.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    return replace(branch, layers=(*before, (name, last)), scale=torch.ones_like(branch.scale))
