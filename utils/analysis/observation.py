"""One pass over the test data of a run, in which all neurons are observed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.analysis.measurements import LayerSums, Measured, Measurements, SynapseSums, merge
from utils.system.errors import UserError
from utils.training.context import RunContext
from utils.training.metrics import Meter, ranked
from utils.training.out_of_memory import explain_failures
from utils.training.progress import bar_factory


class Synapses(Protocol):
    """The weights of one layer; see `models.recording.synapses`."""

    layer: str
    connections: int
    fan_out: Mapping[str, Tensor]


class Recorder(Protocol):
    """Runs a network and reports on its neurons; see `models.recording.recorder`."""

    timesteps: int

    def thresholds(self) -> dict[str, float]: ...

    def synapses(self, images: Tensor) -> Sequence[Synapses]: ...

    def record(self, images: Tensor, observer: Observation) -> Tensor: ...

    def ideal_output(self, images: Tensor) -> Tensor: ...


def observe(context: RunContext, recorder: Recorder) -> Measured:
    """Return the measurements of the network on the whole test set; a collective.

    Raises UserError where no test image can be read.
    """
    world, test = context.world, context.data.test
    test.set_epoch(0)
    observation, meter = Observation(recorder), Meter(world.device)
    bar = bar_factory(world, context.training.print_freq)("observing", test)
    with explain_failures(context), bar:
        for images, labels in test:
            logits = observation.add(images, labels)
            meter.add(F.cross_entropy(logits, labels), logits, labels)
            bar.step(meter)
    parts = [part for part in world.all_gather(observation.measurements()) if part]
    if not parts:
        raise UserError("there is no test image to observe the network on")
    return Measured(merge(parts), meter.reduce(world), recorder.thresholds())


class Observation:
    """The measurements of this rank, added up on the device batch by batch."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.presentations = 1
        self.synapses: Sequence[Synapses] = ()
        self.fan_out: dict[str, FanOut] = {}
        self.layers: dict[str, LayerTotals] = {}
        self.batches: list[tuple[Tensor, ...]] = []

    @torch.no_grad()
    def add(self, images: Tensor, labels: Tensor) -> Tensor:
        """Add a batch of images or frames; return the output of the network, `(N, classes)`."""
        if not self.synapses:
            self._trace(images)
        self.operations = torch.zeros(
            self.recorder.timesteps, len(images), dtype=torch.float64, device=images.device
        )
        outputs = self.recorder.record(images, self)
        predictions = torch.stack([ranked(output)[:, 0] for output in outputs])
        confidences = outputs.softmax(-1).amax(-1)
        ideal = ranked(self.recorder.ideal_output(images))[:, 0]
        self.batches.append((labels, predictions, confidences, self.operations, ideal))
        return outputs[-1]

    def _trace(self, images: Tensor) -> None:
        self.presentations = 1 if images.dim() == 4 else self.recorder.timesteps
        self.synapses = self.recorder.synapses(images)
        sources = dict.fromkeys(name for s in self.synapses for name in s.fan_out)
        self.fan_out = {name: FanOut(name, self.synapses) for name in sources}

    def spikes(self, layer: str, fired: Tensor) -> None:
        """Add where the neurons of a layer fired, `(T, N, ...)` in bool."""
        if layer not in self.layers:
            self.layers[layer] = LayerTotals(fired)
        self.layers[layer].add_spikes(fired)
        if layer in self.fan_out:
            self.operations += self.fan_out[layer].count(fired)

    def representation(self, layer: str, actual: Tensor, ideal: Tensor) -> None:
        """Add the representation of a layer, and the ideal one of its input, `(N, ...)`."""
        self.layers[layer].add_representation(actual, ideal)

    def measurements(self) -> Measurements | None:
        """Return the measurements so far, on the CPU; None where there was no image."""
        if not self.batches:
            return None
        labels, predictions, confidences, operations, ideal = zip(*self.batches, strict=True)
        return Measurements(
            layers={name: totals.sums() for name, totals in self.layers.items()},
            synapses=list(self._synapse_sums()),
            labels=torch.cat(labels).cpu(),
            predictions=torch.cat(predictions, 1).cpu(),
            confidences=torch.cat(confidences, 1).cpu(),
            operations=torch.cat(operations, 1).cpu().long(),
            ideal_predictions=torch.cat(ideal).cpu(),
        )

    def _synapse_sums(self) -> Iterator[SynapseSums]:
        presentations = self.presentations  # of the layers before the first spikes
        for s in self.synapses:
            sources = tuple(s.fan_out)
            presentations = self.recorder.timesteps if sources else presentations
            counts = [int(self.fan_out[source].totals[s.layer]) for source in sources]
            yield SynapseSums(s.layer, s.connections, presentations, sources, sum(counts))


class FanOut:
    """Counts how many weights of each layer the spikes of the neuron layer `source` meet.

    `matrix` `(neurons, layers)` has the fan-out of each neuron, or one row per position where all
    channels have the same.
    """

    def __init__(self, source: str, synapses: Sequence[Synapses]) -> None:
        fed = {s.layer: s.fan_out[source] for s in synapses if source in s.fan_out}
        by_channel = torch.stack([_channels_last(f, 0) for f in fed.values()], -1)  # (P, C, layers)
        self.alike = bool((by_channel == by_channel[:, :1]).all())
        rows = by_channel[:, 0] if self.alike else by_channel.flatten(0, 1)
        self.matrix = rows.double()  # in float64 sums are exact
        self.totals = dict.fromkeys(fed, torch.zeros((), device=rows.device))

    def count(self, fired: Tensor) -> Tensor:
        """Return the number of weights met by the spikes `(T, N, ...)`, `(T, N)` in float64."""
        counts = torch.stack([self._spikes(step) @ self.matrix for step in fired])
        for layer, total in zip(self.totals, counts.sum((0, 1)), strict=True):
            self.totals[layer] = self.totals[layer] + total
        return counts.sum(2)

    def _spikes(self, step: Tensor) -> Tensor:
        """Return the spikes of one step that belong to each row of the matrix, `(N, rows)`."""
        spikes = _channels_last(step, 1)
        return spikes.float().sum(-1).double() if self.alike else spikes.double().flatten(1)


def _channels_last(a: Tensor, channel: int) -> Tensor:
    """Return `a` with its dimension `channel` last, and the later ones flattened, `(..., P, C)`."""
    positions = a.flatten(channel + 1) if a.dim() > channel + 1 else a.unsqueeze(-1)
    return positions.movedim(channel, -1)


class LayerTotals:
    """The totals of one neuron layer, on the device."""

    def __init__(self, fired: Tensor) -> None:
        zero = torch.zeros((), dtype=torch.int64, device=fired.device)
        self.images, self.silent, self.saturated = 0, zero, zero
        self.has_fired = torch.zeros_like(fired[0, 0])
        self.spikes_per_step = torch.zeros(len(fired), dtype=torch.int64, device=fired.device)
        self.errors = torch.zeros(3, dtype=torch.float64, device=fired.device)

    def add_spikes(self, fired: Tensor) -> None:
        """Add spikes `(T, N, ...)` in bool."""
        spikes = torch.zeros_like(fired[0], dtype=torch.int32)
        for step in fired:
            spikes += step
        self.images += len(spikes)
        self.has_fired |= spikes.amax(0) > 0
        self.spikes_per_step += torch.stack([step.count_nonzero() for step in fired])
        self.silent = self.silent + spikes.numel() - spikes.count_nonzero()
        self.saturated = self.saturated + (spikes == len(fired)).count_nonzero()

    def add_representation(self, actual: Tensor, ideal: Tensor) -> None:
        """Add the errors of a representation `(N, ...)`."""
        actual, ideal = actual.double(), ideal.double()
        error = actual - ideal
        self.errors += torch.stack([error.sum(), error.square().sum(), ideal.square().sum()])

    def sums(self) -> LayerSums:
        """Return the totals on the CPU."""
        return LayerSums(
            self.images,
            self.has_fired.cpu(),
            self.spikes_per_step.cpu(),
            int(self.silent),
            int(self.saturated),
            *self.errors.tolist(),
        )
