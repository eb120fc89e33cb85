"""Run a spiking network on means over time, with a function in place of each neuron layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from torch import Tensor

from models.engines.mean import MeanEngine
from models.network import SpikingNetwork

Substitute = Callable[[str, Tensor], Tensor]


def run_on_means(network: SpikingNetwork, images: Tensor, substitute: Substitute) -> Tensor:
    """Return the output of `network`, in evaluation mode, on plain tensors of batch N.

    `substitute(layer, x)` is called in place of each neuron layer: `x` is its input, `(N, ...)`,
    and the result is passed on as its output, of the same shape.
    """
    with _substituted(network, substitute):
        return network(images)


@contextmanager
def _substituted(network: SpikingNetwork, substitute: Substitute) -> Iterator[None]:
    choice, training = network.choice, network.training
    network.eval()
    network.choice = replace(choice, evaluation=MeanEngine(network.dynamics))
    for name, neuron in network.neurons().items():
        neuron.substitute = partial(substitute, name)
    try:
        yield
    finally:
        network.choice = choice
        network.train(training)
        for neuron in network.neurons().values():
            neuron.substitute = None
