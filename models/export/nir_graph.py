"""A trained network as a graph of the Neuromorphic Intermediate Representation (NIR).

NIR's `IF` and `LIF` set the potential to a constant when they fire and cannot subtract the
threshold. A unit is therefore stated by the nodes that NIR composes neurons of: an integrator
(`I`, or `LI` where it leaks), a `Threshold`, and a `Scale` that feeds each spike back to the
integrator, where it arrives at the next step (docs/export.md, section 4).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from models.dynamics import Dynamics
from models.export.layer_graph import ExportError, require_spiking
from models.export.units import IMAGES, Branch, Unit, identifier, units
from models.network import SpikingNetwork

if TYPE_CHECKING:
    import nir

Shape = tuple[int, ...]  # (channels, height, width) or (features,)
Node = Any  # of nir, which is imported where it is needed


def nir_graph(network: SpikingNetwork, height: int, width: int) -> nir.NIRGraph:
    """Return the NIR graph of `network` in evaluation mode for images of the given size.

    One evaluation of the graph is one timestep; after the last one its output is that of the
    network. Raises `ExportError` as `units` does, for a window of pooling that no node states and
    for an image too small, and ImportError without the package nir.
    """
    import nir

    d = require_spiking(network).dynamics
    builder = _Builder(d, _time(network))
    shape = (network.in_channels, height, width)
    builder.add(IMAGES, nir.Input(input_type={"input": np.array(shape)}), shape)
    found = units(network)
    for unit in found:
        builder.add_unit(unit)
    spikes = _spikes(found[-1].name)
    shape = builder.shapes[spikes]
    readout = d.amplitude * found[-1].Vth * d.weights[-1]
    builder.add("readout", builder.integrator(shape, readout / d.gain, found[-1].bias), shape)
    builder.add("output", nir.Output(output_type={"output": np.array(shape)}), shape)
    builder.edges += [(spikes, "readout"), ("readout", "output")]
    metadata = {"timesteps": d.timesteps, "dt": builder.time[0]}
    return nir.NIRGraph(builder.nodes, builder.edges, metadata)


def _time(network: SpikingNetwork) -> tuple[float, float]:
    """Return the duration of a timestep and the time constant, in one unit of time."""
    setting = network.setting
    return setting.delta_t, setting.tau


def _spikes(unit: str) -> str:
    """Return the name of the node whose output is a unit's spikes."""
    return IMAGES if unit == IMAGES else f"{identifier(unit)}_spikes"


class _Builder:
    """Nodes and edges found so far, and the shapes of what the nodes put out."""

    def __init__(self, d: Dynamics, time: tuple[float, float]) -> None:
        self.d, self.time = d, time
        self.nodes: dict[str, Node] = {}
        self.edges: list[tuple[str, str]] = []
        self.shapes: dict[str, Shape] = {}

    def add(self, name: str, node: Node, shape: Shape, after: str | None = None) -> None:
        self.nodes[name], self.shapes[name] = node, shape
        if after is not None:
            self.edges.append((after, name))

    def integrator(self, shape: Shape, factor: float, like: Tensor) -> Node:
        """Return neurons without spikes: `u <- decay * u + gain * factor * input` per step."""
        import nir

        def constant(value: float) -> np.ndarray:
            return _constant(shape, value, like)

        step, tau = self.time
        if self.d.decay == 1:
            return nir.I(r=constant(factor / step))
        return nir.LI(tau=constant(tau), r=constant(factor), v_leak=constant(0.0))

    def add_unit(self, unit: Unit) -> None:
        import nir

        name, spikes = identifier(unit.name), _spikes(unit.name)
        bias = unit.bias if torch.count_nonzero(unit.bias) else None
        ends = []
        for branch in unit.branches:
            ends.append(self._add_branch(branch, bias))
            bias = None
        shape = self.shapes[ends[0]]
        # A spike arrives a step late, after the potential has decayed once.
        reset = _constant(shape, -unit.Vth * self.d.decay / self.d.gain, unit.bias)
        self.add(name, self.integrator(shape, 1.0, unit.bias), shape)
        self.add(spikes, nir.Threshold(_below(self.d.alpha * unit.Vth, shape, unit.bias)), shape)
        self.add(f"{name}_reset", nir.Scale(reset), shape)
        self.edges += [(end, name) for end in ends]
        self.edges += [(name, spikes), (spikes, f"{name}_reset"), (f"{name}_reset", name)]

    def _add_branch(self, branch: Branch, bias: Tensor | None) -> str:
        """Add a branch's nodes; return the name of the last, to which `bias` is added."""
        last = _spikes(branch.source)
        layers = _without_adaptive_pooling(branch, self.shapes[last])
        factor = 1.0  # of a pooling that is stated as a sum, for the weights after it
        for name, layer in layers:
            shape = self.shapes[last]
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                layer.weight = nn.Parameter(layer.weight * factor, requires_grad=False)
                added = bias if name == layers[-1][0] else None
                node, factor = _weighted(layer, shape, added), 1.0
            else:
                node, share = _shaping(name, layer, shape)
                factor *= share
            if identifier(name) not in self.nodes:  # layers without weights can serve two units
                self.add(identifier(name), node, _output_shape(name, layer, shape), after=last)
            last = identifier(name)
        return last


def _constant(shape: Shape, value: float, like: Tensor) -> np.ndarray:
    return torch.full(shape, value, dtype=like.dtype).numpy()


def _below(value: float, shape: Shape, like: Tensor) -> np.ndarray:
    """Return the next number below `value`: NIR's threshold fires above it, ours from it on."""
    rounded = _constant(shape, value, like)
    return np.nextafter(rounded, np.full_like(rounded, -np.inf))


def _output_shape(name: str, layer: nn.Module, shape: Shape) -> Shape:
    """Return the output shape of a layer, found without computing its values."""
    weights = {key: value.to("meta") for key, value in layer.state_dict().items()}
    try:
        output = torch.func.functional_call(layer, weights, torch.empty(1, *shape, device="meta"))
    except RuntimeError as error:
        raise ExportError(
            f"layer {name} cannot take {_sized(shape)}; give larger images"
        ) from error
    return tuple(output.shape[1:])


def _sized(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _without_adaptive_pooling(branch: Branch, shape: Shape) -> list[tuple[str, nn.Module]]:
    """Return a branch's layers, adaptive pooling of a known shape replaced by equal layers.

    Equal windows are an average pooling; others, followed by a flatten and a linear layer, are
    weights of the latter.
    """
    layers = [(name, copy.deepcopy(layer)) for name, layer in branch.layers]
    for i, (name, layer) in enumerate(layers):
        if isinstance(layer, nn.AdaptiveAvgPool2d):
            size = _output_shape(name, layer, shape)[1:]
            if all(have % wanted == 0 for have, wanted in zip(shape[1:], size, strict=True)):
                windows = tuple(h // w for h, w in zip(shape[1:], size, strict=True))
                layers[i] = (name, nn.AvgPool2d(windows))
            elif [type(layer) for _, layer in layers[i + 1 :]] == [nn.Flatten, nn.Linear]:
                _absorb(layer, layers[-1][1], shape)
                return layers[:i] + layers[i + 1 :]
            else:
                raise ExportError(
                    f"layer {name} pools {_sized(shape[1:])} to {_sized(size)} in unequal windows, "
                    "which no NIR node states"
                )
        shape = _output_shape(*layers[i], shape)
    return layers


def _absorb(pool: nn.AdaptiveAvgPool2d, linear: nn.Linear, shape: Shape) -> None:
    """Give `linear` the weights that it has together with `pool` and the flattening between."""
    channels, *size = shape
    places = torch.eye(size[0] * size[1], dtype=linear.weight.dtype).view(-1, 1, *size)
    shares = pool(places).flatten(1)  # (H*W, windows)
    weight = linear.weight.view(len(linear.weight), channels, -1) @ shares.t()
    linear.weight = nn.Parameter(weight.flatten(1), requires_grad=False)
    linear.in_features = linear.weight.shape[1]


def _weighted(layer: nn.Conv2d | nn.Linear, shape: Shape, bias: Tensor | None) -> Node:
    import nir

    weight = layer.weight.detach()
    if isinstance(layer, nn.Linear):
        return nir.Linear(weight.numpy()) if bias is None else nir.Affine(*_numpy(weight, bias))
    if layer.kernel_size == (1, 1) and layer.groups == layer.out_channels and bias is None:
        return nir.Scale(weight.view(-1, 1, 1).expand(shape).contiguous().numpy())
    if layer.padding_mode != "zeros":
        raise ExportError(f"padding {layer.padding_mode}: NIR pads with zeros only")
    bias = torch.zeros_like(weight[:, 0, 0, 0]) if bias is None else bias
    return nir.Conv2d(
        input_shape=shape[1:],
        weight=_dense(weight, layer.groups).numpy(),
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=1,
        bias=bias.detach().numpy(),
    )


def _numpy(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def _dense(weight: Tensor, groups: int) -> Tensor:
    """Return a grouped convolution's weight with its zeros, since NIR checks no grouped shapes."""
    if groups == 1:
        return weight.contiguous()
    parts = [part.flatten(2).permute(2, 0, 1) for part in weight.chunk(groups)]  # (k*k, out, in)
    blocks = torch.stack([torch.block_diag(*place) for place in zip(*parts, strict=True)])
    return blocks.permute(1, 2, 0).unflatten(2, weight.shape[2:]).contiguous()


def _shaping(name: str, layer: nn.Module, shape: Shape) -> tuple[Node, float]:
    """Return the node of a layer without weights, and the factor that its output lacks.

    NIR says of an average pooling not whether zeros outside the image count; a sum leaves no doubt.
    """
    import nir

    if isinstance(layer, nn.Flatten):
        return nir.Flatten({"input": np.array(shape)}, start_dim=0, end_dim=-1), 1.0
    window, stride, padding = (
        np.array(nn.modules.utils._pair(value))
        for value in (layer.kernel_size, layer.stride, layer.padding)
    )
    if layer.ceil_mode or layer.divisor_override:
        raise ExportError(f"layer {name} rounds up or has a divisor of its own, unlike NIR's pools")
    if not padding.any():
        return nir.AvgPool2d(window, stride, padding), 1.0
    if not layer.count_include_pad:
        raise ExportError(f"layer {name} averages fewer values at the border, unlike NIR's pools")
    return nir.SumPool2d(window, stride, padding), 1.0 / window.prod().item()
