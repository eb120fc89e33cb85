"""A trained network as source for SpikingJelly, with binary spikes and without BatchNorm.

SpikingJelly's neurons fire at the threshold that they subtract. Those of this project, which fire
at `alpha * Vth`, are the same from the initial potential `(1 - alpha) * Vth` on and, where they
leak, with `(1 - alpha) * Vth` as a constant extra input (docs/method.md, section 7).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.export.layer_graph import require_spiking
from models.export.source import LOAD, constructor, indented
from models.export.units import IMAGES, Unit, identifier, units
from models.network import SpikingNetwork

_HEAD = '''\
"""{title}, for SpikingJelly: binary spikes, BatchNorm in the weights.

    network = load("{file}")
    outputs = network(images)  # {shape} to (N, classes)
    spikes = network.step(x)  # of the last layer, at one more timestep with the input x

Before `step` is called for another input: `functional.reset_net(network)`.
"""

import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

TIMESTEPS = {timesteps}
ALPHA = {alpha!r}  # the neurons begin at 1 - ALPHA of their threshold
DECAY = {decay!r}  # of the membrane potential, per step
AMPLITUDE = {amplitude!r}  # what an output spike counts


def neurons(Vth):
    """Return neurons with the threshold Vth, which they subtract when they fire."""
    if DECAY == 1:
        node = neuron.IFNode(v_threshold=Vth, v_reset=None)
    else:
        node = neuron.LIFNode(tau=1 / (1 - DECAY), v_threshold=Vth, v_reset=None)
    node.set_reset_value("v", (1 - ALPHA) * Vth)
    node.reset()
    return node
'''

_TAIL = '''\
    def forward(self, images):
        """Return the mean of the output spikes, later steps weighing more where neurons leak."""
        functional.reset_net(self)
        weights = [DECAY ** (TIMESTEPS - 1 - t) for t in range(TIMESTEPS)]
        steps = [images] * TIMESTEPS if images.dim() == 4 else images.unbind(1)
        total = sum(w * self.step(x) for w, x in zip(weights, steps, strict=True))
        return AMPLITUDE * total / sum(weights)
'''


def export(network: SpikingNetwork, title: str, file: str) -> tuple[str, dict[str, Tensor]]:
    """Return a Python file for SpikingJelly and the state dict that it loads from `file`.

    Its neurons fire at the same steps as those of `network` in evaluation mode, up to rounding.
    Raises `ExportError` as `units` does.
    """
    d = require_spiking(network).dynamics
    found = units(network)
    shape = f"(N, {network.in_channels}, H, W), or (N, T, {network.in_channels}, H, W),"
    amplitude = d.amplitude * found[-1].Vth
    head = _HEAD.format(
        title=title,
        file=file,
        shape=shape,
        timesteps=d.timesteps,
        alpha=d.alpha,
        decay=d.decay,
        amplitude=amplitude,
    )
    layers = _layers(found, 0.0 if d.decay == 1 else 1 - d.alpha)
    made = [f"self.{name} = {constructor(module, 'layer')}" for name, module in layers.items()]
    made += [f"self.{identifier(unit.name)} = neurons({unit.Vth!r})" for unit in found]
    body = [
        "class Network(nn.Module):",
        "    def __init__(self):",
        *indented(["super().__init__()", *made], 2),
        "",
        "    def step(self, x):",
        *indented(_step(found), 2),
        "",
    ]
    state = {
        f"{name}.{key}": value
        for name, module in layers.items()
        for key, value in module.state_dict().items()
    }
    return "\n\n".join([head, "\n".join(body) + "\n" + _TAIL, LOAD]), state


def _layers(found: list[Unit], constant: float) -> dict[str, nn.Module]:
    """Return all layers by attribute, with `bias + constant * Vth` of a unit in one of its own."""
    layers = {identifier(n): m for unit in found for b in unit.branches for n, m in b.layers}
    for unit in found:
        bias = unit.bias.double() + constant * unit.Vth
        if torch.count_nonzero(bias):
            last = unit.branches[0].layers[-1][1]
            last.bias = nn.Parameter(bias.to(unit.bias.dtype), requires_grad=False)
    return layers


def _step(found: list[Unit]) -> list[str]:
    """Return the statements that compute one timestep, the last unit's spikes at the end."""
    lines = []
    for unit in found:
        name = identifier(unit.name)
        terms = [_call(branch.source, [n for n, _ in branch.layers]) for branch in unit.branches]
        if len(terms) > 1:
            lines += [f"z = {terms[0]}", *(f"z = z + {term}" for term in terms[1:])]
            terms = ["z"]
        lines.append(f"{name} = self.{name}({terms[0]})")
    return [*lines, f"return {identifier(found[-1].name)}"]


def _call(source: str, layers: list[str]) -> str:
    text = "x" if source == IMAGES else identifier(source)
    for name in layers:
        text = f"self.{identifier(name)}({text})"
    return text
