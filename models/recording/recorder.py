"""Record what the neurons of a spiking network do on a batch, under any engine."""

from __future__ import annotations

from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from models.dynamics import ideal, running_means
from models.network import SpikingNetwork
from models.neuron import Neuron
from models.recording.means import run_on_means
from models.recording.synapses import Synapses, trace_synapses


class Observer(Protocol):
    """Receives what the neuron layers do, in calling order."""

    def spikes(self, layer: str, fired: Tensor) -> None:
        """Receive where the neurons of a layer fired, `(T, N, ...)` in bool."""

    def representation(self, layer: str, actual: Tensor, ideal: Tensor) -> None:
        """Receive the representation of a layer, and the ideal one of its input, `(N, ...)`."""


class Recorder:
    """Runs `network` in evaluation mode and reports to observers."""

    def __init__(self, network: SpikingNetwork) -> None:
        self.network = network
        self.timesteps = network.dynamics.timesteps

    def thresholds(self) -> dict[str, float]:
        """Return the threshold of each neuron layer, in registration order."""
        return {name: neuron.Vth.item() for name, neuron in self.network.neurons().items()}

    def synapses(self, images: Tensor) -> list[Synapses]:
        """Return the synapses for an input of the size of `images`, in calling order."""
        return trace_synapses(self.network, images)

    @torch.no_grad()
    def record(self, images: Tensor, observer: Observer) -> Tensor:
        """Run on images or frames; return the output after each number of steps, `(T, N, classes)`.

        The last is the output of the network, bit for bit.
        """
        self.network.eval()
        listener = _Listener(observer)
        neurons = self.network.neurons()
        hooks = [n.register_forward_hook(partial(listener, name)) for name, n in neurons.items()]
        try:
            output = self.network(images)
        finally:
            for hook in hooks:
                hook.remove()
        self._compare(images, listener.representations, observer)
        return torch.cat([listener.running[:-1].to(output.dtype), output[None]])

    @torch.no_grad()
    def ideal_output(self, images: Tensor) -> Tensor:
        """Return the output `(N, classes)` of the network of ideal representations."""
        self.network.eval()
        return run_on_means(self.network, images, self._ideal)

    def _compare(
        self, images: Tensor, representations: dict[str, Tensor], observer: Observer
    ) -> None:
        """Report the representation of each layer beside the ideal one of its mean input."""

        def compare(layer: str, x: Tensor) -> Tensor:
            actual = representations.pop(layer)
            observer.representation(layer, actual, self._ideal(layer, x))
            return actual

        run_on_means(self.network, images, compare)

    def _ideal(self, layer: str, x: Tensor) -> Tensor:
        return ideal(x, self.network.neurons()[layer].Vth, self.network.dynamics)


class _Listener:
    """A forward hook of neuron layers: reports spikes, and keeps all representations.

    `running` is that of the layer called last, after each number of steps, `(T, N, ...)`.
    """

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.representations: dict[str, Tensor] = {}
        self.running = torch.empty(0)

    def __call__(self, layer: str, neuron: Neuron, inputs: tuple, output) -> None:
        d = neuron.dynamics
        values = output if isinstance(output, Tensor) else output.values
        fired = (values != 0).unflatten(0, (d.timesteps, -1))
        self.observer.spikes(layer, fired)
        amplitude = d.amplitude * neuron.Vth
        mean = torch.zeros_like(fired[0], dtype=amplitude.dtype)
        for v, spikes in zip(d.weights, fired, strict=True):  # a float train would be large
            mean.add_(spikes.to(mean.dtype), alpha=v)
        self.representations[layer] = amplitude * mean
        if fired.dim() == 3:
            self.running = running_means(fired * amplitude, d)
