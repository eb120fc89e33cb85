"""The layers of a spiking network and what flows between them, as a torch.fx graph."""

from __future__ import annotations

import copy
import operator
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, fx, nn

from models.dynamics import Dynamics
from models.network import SpikingNetwork
from models.neuron import Neuron

ADDITIONS = (operator.add, operator.iadd, torch.add)


class ExportError(ValueError):
    """A network that cannot be stated in the form asked for; the message says what stands in it."""


def require_spiking(network: nn.Module) -> SpikingNetwork:
    """Return `network`; raises `ExportError` unless it is spiking, with one kind of neuron."""
    if not isinstance(network, SpikingNetwork) or not network.neurons():
        raise ExportError("the network has no spiking neurons")
    if len({_constants(neuron.dynamics) for neuron in network.neurons().values()}) > 1:
        raise ExportError("its neuron layers differ in more than their thresholds")
    return network


def _constants(d: Dynamics) -> tuple:
    """Return what of the dynamics acts in the forward pass, the threshold aside."""
    return d.timesteps, d.alpha, d.decay, d.gain, d.amplitude, d.weights


def thresholds(network: SpikingNetwork) -> dict[str, Tensor]:
    """Return the thresholds that a forward pass uses, at or above their bound, by layer."""
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, Neuron):
            neuron = copy.deepcopy(module)
            neuron.project_()
            found[name] = neuron.Vth.detach()
    return found


def layer_graph(network: SpikingNetwork) -> fx.Graph:
    """Return the graph of one timestep, whose modules are torch's own layers and neurons.

    It goes from the images of a step to the output of the last neuron layer: the network's
    `present` and `readout` are left out. Raises `ExportError` where its forward pass depends on
    values or calls neurons twice, whose membrane potentials would be two.
    """
    graph = _trace(_one_step(network), _Tracer())
    targets = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for name, times in targets.items():
        if times > 1 and isinstance(network.get_submodule(name), Neuron):
            raise ExportError(f"neurons {name} are called {times} times per step")
    return graph


def child_graph(module: nn.Module) -> fx.Graph:
    """Return the graph of a module's own forward pass, whose modules are its direct children.

    Raises `ExportError` as `layer_graph` does.
    """
    root = _one_step(module) if isinstance(module, SpikingNetwork) else module
    return _trace(root, _ChildTracer())


def _one_step(network: SpikingNetwork) -> SpikingNetwork:
    """Return a shallow copy of `network` without presentation, readout and engine."""
    step = copy.copy(network)
    step.present = step.readout = lambda x: x
    step.run = lambda forward, images: forward(images)
    return step


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, Neuron) or super().is_leaf_module(module, name)


class _ChildTracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return True


def _trace(root: nn.Module, tracer: fx.Tracer) -> fx.Graph:
    try:
        return tracer.trace(root)
    except (fx.proxy.TraceError, NotImplementedError, TypeError, NameError) as error:
        line = next(iter(str(error).splitlines()), type(error).__name__)
        kind = type(root).__name__
        raise ExportError(f"{kind}'s forward pass is not a fixed graph ({line})") from error


def is_addition(node: fx.Node) -> bool:
    """Return whether `node` is the sum of two spike trains or currents."""
    return (
        node.op == "call_function"
        and node.target in ADDITIONS
        and not node.kwargs
        and all(isinstance(term, fx.Node) for term in node.args)
    )


def calls(graph: fx.Graph) -> Iterator[fx.Node]:
    """Yield all nodes but the input and the output; raises `ExportError` for what is not exported.

    That is any operation but calls of modules with one input and sums.
    """
    for node in graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        calls_module = node.op == "call_module" and len(node.args) == 1 and not node.kwargs
        if not calls_module and not is_addition(node):
            name = getattr(node.target, "__name__", node.target)
            raise ExportError(f"its forward pass uses {name}; only layers and sums are exported")
        yield node
