"""A trained network as source that needs torch alone, beside a state dict with the same keys.

It computes in the order of the unrolled engine, on tensors of the same shapes, so that rounding is
the same, too.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from models.export.layer_graph import (
    ExportError,
    child_graph,
    layer_graph,
    require_spiking,
    thresholds,
)
from models.export.source import (
    LOAD,
    arguments,
    constructor,
    forward_lines,
    indented,
    is_torch_layer,
)
from models.network import SpikingNetwork
from models.neuron import Neuron

Slot = tuple[str, ...]  # where in a module's constructor an argument stands: ("conv1", "stride")

_HEAD = '''\
"""{title}, in plain PyTorch.

    network = load("{file}")
    outputs = network(images)  # {shape} to (N, classes)
"""

import torch
from torch import nn

TIMESTEPS = {timesteps}
ALPHA = {alpha!r}  # a neuron fires from this share of its threshold on
DECAY = {decay!r}  # of the membrane potential, per step
GAIN = {gain!r}  # of the neurons' input
AMPLITUDE = {amplitude!r}  # of a spike, in units of the threshold


class Neuron(nn.Module):
    """Spiking neurons that subtract their threshold when they fire, (T*N, ...) to (T*N, ...)."""

    def __init__(self):
        super().__init__()
        self.Vth = nn.Parameter(torch.tensor(1.0))

    def forward(self, z):
        u, spikes = 0.0, []  # u: membrane potential
        for z_t in z.unflatten(0, (TIMESTEPS, -1)):
            u = DECAY * u + GAIN * z_t
            fired = u >= ALPHA * self.Vth
            u = torch.where(fired, u - self.Vth, u)
            spikes.append(fired * (AMPLITUDE * self.Vth))
        return torch.cat(spikes)
'''

_TAIL = '''\
    def forward(self, images):
        """Return the mean of the output spikes, later steps weighing more where neurons leak."""
        steps = [images] * TIMESTEPS if images.dim() == 4 else images.unbind(1)
        spikes = self.output_spikes(torch.cat(steps)).unflatten(0, (TIMESTEPS, -1))
        weights = [DECAY ** (TIMESTEPS - 1 - t) for t in range(TIMESTEPS)]
        return sum(w * s for w, s in zip(weights, spikes, strict=True)) / sum(weights)
'''


def export(network: SpikingNetwork, title: str, file: str) -> tuple[str, dict[str, Tensor]]:
    """Return a Python file that computes what `network` does in evaluation mode, and its weights.

    These have the keys of a checkpoint, all thresholds among them; the Python file loads them from
    `file`. Raises `ExportError` for a network without neurons, and for one that holds other modules
    than torch's layers, neurons, and modules made of these whose forward pass only calls and adds.
    """
    d = require_spiking(network).dynamics
    layer_graph(network)  # raises for neurons that are called twice
    shape = f"(N, {network.in_channels}, H, W), or (N, T, {network.in_channels}, H, W),"
    head = _HEAD.format(title=title, file=file, shape=shape, **vars(d))
    classes = _Classes(network)
    blocks = [classes.definition(block) for block in classes.all]
    source = "\n\n".join([head, *blocks, f"{classes.network_definition(network)}\n{_TAIL}", LOAD])
    state = {name: value.detach().clone() for name, value in network.state_dict().items()}
    return source, state | {f"{name}.Vth": Vth for name, Vth in thresholds(network).items()}


@dataclass
class _Class:
    """A class to write, for all blocks of one structure."""

    name: str
    instances: list[nn.Module] = field(default_factory=list)
    variables: dict[Slot, str] = field(default_factory=dict)  # names of what differs between them


class _Classes:
    """The classes that a network's blocks need, one per structure, inner ones first."""

    def __init__(self, network: SpikingNetwork) -> None:
        self._by_structure: dict[Hashable, _Class] = {}
        for module in _inner_first(network):
            if module is not network and _is_block(module):
                self._of(module).instances.append(module)
        for block in self.all:
            block.variables = _variables([self._slots(module) for module in block.instances])

    @property
    def all(self) -> list[_Class]:
        return list(self._by_structure.values())

    def _of(self, module: nn.Module) -> _Class:
        structure = _structure(module)
        if structure not in self._by_structure:
            name = type(module).__name__
            same = sum(block.name.rstrip("0123456789") == name for block in self.all)
            self._by_structure[structure] = _Class(f"{name}{same + 1}" if same else name)
        return self._by_structure[structure]

    def definition(self, block: _Class) -> str:
        """Return the class of a block, whose constructor takes what differs between blocks."""
        parameters = ", ".join(["self", *dict.fromkeys(block.variables.values())])
        head = [f"class {block.name}(nn.Module):", f"    def __init__({parameters}):"]
        module = block.instances[0]
        forward = indented(forward_lines(child_graph(module)), 2)
        body = self._constructor_lines(module, block.variables)
        return "\n".join([*head, *body, "", "    def forward(self, x):", *forward, ""])

    def network_definition(self, network: SpikingNetwork) -> str:
        """Return the class of the network without its `forward`."""
        head = ["class Network(nn.Module):", "    def __init__(self):"]
        spikes = [
            "    def output_spikes(self, x):",
            *indented(forward_lines(child_graph(network)), 2),
        ]
        return "\n".join([*head, *self._constructor_lines(network, {}), "", *spikes, ""])

    def _constructor_lines(self, module: nn.Module, variables: dict[Slot, str]) -> list[str]:
        lines = ["super().__init__()"]
        for name, child in module.named_children():
            lines.append(f"self.{name} = {self._call(child, (name,), variables)}")
        return indented(lines, 2)

    def _call(self, module: nn.Module, slot: Slot, variables: dict[Slot, str]) -> str:
        """Return the call that makes `module`; `variables` by slots that begin with `slot`."""
        if isinstance(module, Neuron):
            return "Neuron()"
        if is_torch_layer(module):
            given = {name: variables.get((*slot, name)) for name in arguments(module)}
            return constructor(module, given=given)
        if _is_sequence(module):
            children = module.named_children()
            calls = [self._call(child, (*slot, name), variables) for name, child in children]
            listed = ", ".join(_repetitions(calls))
            return f"nn.ModuleList([{listed}])" if _is_list(module) else f"nn.Sequential({listed})"
        taken = self._arguments(module)
        texts = (variables.get((*slot, name), repr(value)) for name, value in taken.items())
        return f"{self._of(module).name}({', '.join(texts)})"

    def _arguments(self, block: nn.Module) -> dict[str, Any]:
        """Return what the constructor of a block's class is given for this one."""
        slots = self._slots(block)
        return {name: slots[slot] for slot, name in self._of(block).variables.items()}

    def _slots(self, module: nn.Module) -> dict[Slot, Any]:
        """Return all that the constructor of a block gives to its children, defaults included."""
        slots: dict[Slot, Any] = {}
        for name, child in module.named_children():
            if isinstance(child, Neuron):
                continue
            if _is_sequence(child):
                inner = self._slots(child)
            elif is_torch_layer(child):
                inner = {(argument,): value for argument, value in arguments(child).items()}
            else:
                inner = {(argument,): value for argument, value in self._arguments(child).items()}
            slots |= {(name, *slot): value for slot, value in inner.items()}
        return slots


def _variables(instances: list[dict[Slot, Any]]) -> dict[Slot, str]:
    """Return names for the slots whose values differ between instances.

    Slots that always hold the same value share a name, that of the argument they stand for.
    """
    names: dict[tuple, str] = {}
    variables = {}
    # Convolutions first: they tell channels in from channels out.
    for slot in sorted(instances[0], key=lambda slot: "conv" not in slot[-2]):
        values = tuple(instance[slot] for instance in instances)
        if len(set(values)) > 1 and values not in names:
            same = sum(name.rstrip("0123456789") == slot[-1] for name in names.values())
            names[values] = f"{slot[-1]}{same + 1}" if same else slot[-1]
        if values in names:
            variables[slot] = names[values]
    return variables


def _inner_first(module: nn.Module) -> list[nn.Module]:
    inner = [m for child in module.children() for m in _inner_first(child)]
    return [*inner, module]


def _is_sequence(module: nn.Module) -> bool:
    return type(module) in (nn.Sequential, nn.ModuleList)


def _is_list(module: nn.Module) -> bool:
    return type(module) is nn.ModuleList


def _is_block(module: nn.Module) -> bool:
    """Return whether a class must be written for `module`."""
    return not (isinstance(module, Neuron) or _is_sequence(module) or is_torch_layer(module))


def _structure(module: nn.Module) -> Hashable:
    """Return what two modules share for which one class can be written."""
    if not (_is_block(module) or _is_sequence(module)):
        return type(module).__name__ if is_torch_layer(module) else "Neuron"
    if not any(module.children()) and not _is_sequence(module):
        raise ExportError(f"it holds a {type(module).__name__}, which is no layer of torch.nn")
    children = tuple((name, _structure(child)) for name, child in module.named_children())
    forward = () if _is_sequence(module) else tuple(forward_lines(child_graph(module)))
    return type(module).__name__, forward, children


def _repetitions(calls: list[str]) -> list[str]:
    """Return `calls` with runs of three and more equal ones written as one."""
    runs: list[list] = []
    for call in calls:
        if runs and runs[-1][0] == call:
            runs[-1][1] += 1
        else:
            runs.append([call, 1])
    written = []
    for call, times in runs:
        written += [call] * times if times < 3 else [f"*({call} for _ in range({times}))"]
    return written
