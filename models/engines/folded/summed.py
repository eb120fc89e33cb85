"""The current of a neuron layer: the sum of its branches.

Currents are `(S, M, C)`: S = T steps, or 1 for a static current; M = N*H*W rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.dynamics import Dynamics, accumulator
from models.engines.folded.autograd import Means, rows, unrows
from models.engines.folded.norm import Norm
from models.engines.folded.options import FoldedOptions
from models.engines.folded.spike_train import Branch, SpikeTrain
from models.engines.ops.reference import Affine
from models.engines.ops.sparse import events
from models.engines.ops.sparse.scratch import Scratch
from models.engines.ops.sparse.spike_bits import SpikeBits


@dataclass
class Term:
    """A branch with a weight, and what the gradient of its own BatchNorm needs."""

    branch: Branch
    means: Means | None = None
    q: Tensor | None = None  # (S, M, C), the output of the weight


@dataclass
class Summed:
    """A current `y` `(S, M, C)`, and what its branches leave for the backward pass.

    `shape` is `(N, C, ...)` of one step; `residuals` are the handles of the branches without a
    weight, None for the network's input. A current that ends with an event-driven convolution is
    `pending` until something asks for it: what follows is then computed with it.
    """

    options: FoldedOptions
    dtype: torch.dtype
    y: Tensor | None
    shape: tuple[int, ...]
    terms: list[Term]
    residuals: list[Tensor | None]
    pending: events.Current | None = None

    @property
    def steps(self) -> int:
        """Steps of the current: T, or one that stands for all."""
        return len(self.y) if self.pending is None else self.options.timesteps

    def current(self) -> Tensor:
        """Return the current, the single step of a static one without its time dimension."""
        if self.pending is not None:
            self._set(events.compute(self.pending, self._scratch()))
        return self.y[0] if self.steps < self.options.timesteps else self.y

    def normalisation(self, norm: Norm | None, centre: bool) -> tuple[Affine | None, Tensor | None]:
        """Return the affine map of `norm` for this current, and `y_u` if it is to be centred."""
        if norm is None or not norm.training:
            return (None if norm is None else norm.affine(None, 0, self.options.reduce)), None
        if self.pending is None:
            return normalisation(norm, self.y, self.options, centre)
        images, statistics = events.compute_with_statistics(self.pending, centre, self._scratch())
        self._set(images)
        samples = self.options.timesteps * self.y.shape[1]
        return norm.affine(statistics, samples, self.options.reduce), statistics.time_mean

    def spikes(self, affine: Affine | None, Vth: Tensor, d: Dynamics) -> Tensor:
        """Return the spikes `(T, M, C)` that the current causes."""
        if self.pending is not None:
            return self._steps(events.fire(self.pending, affine, Vth, d))
        dtype = self.options.spike_dtype(self.dtype)
        return self.options.kernels.spikes(self.current(), affine, Vth, d, dtype)

    def images(self, a: Tensor) -> Tensor:
        """Return `(T, M, C)` in the shape `(T*N, C, ...)`."""
        return unrows(a.flatten(0, 1), (len(a) * self.shape[0], *self.shape[1:]))

    def spike_train(
        self,
        spikes: Tensor,
        amplitude: Tensor,
        handle: Tensor | None = None,
        count: Tensor | None = None,
    ) -> SpikeTrain:
        """Return spikes `(T, M, C)` and their counts `(M, C)` in the shape of the current."""
        values = self.images(spikes)
        total = None if count is None else unrows(count, self.shape)
        return SpikeTrain(
            self.options, values, amplitude, handle, total, binary=True, compute=self.dtype
        )

    def _scratch(self) -> Scratch | None:
        """Return the scratch memory in a training step, whose currents die with their layer."""
        return self.options.scratch if self.terms else None

    def _set(self, images: Tensor) -> None:
        self.y, self.pending = self._steps(images), None

    def _steps(self, images: Tensor) -> Tensor:
        """Return `(T*N, C, ...)` as `(T, M, C)`."""
        return rows(images).unflatten(0, (self.options.timesteps, -1))


def sum_branches(
    branches: list[Branch], options: FoldedOptions, d: Dynamics, differentiable: bool
) -> Summed:
    """Sum the branches of a current, those with a weight first.

    The list is emptied, so that a spike train without a weight is freed once it is added.
    """
    summed = Summed(options, branches[0].train.compute, None, (), [], [])
    last, pending = _take_event_driven(branches)
    residual = None if pending is None else _take_residual(branches)
    scratch = options.scratch if differentiable and pending is not None else None
    while branches:
        _add_branch(summed, branches.pop(0), d, differentiable, scratch)
        scratch = None  # is taken
    if pending is not None:
        summed.terms += [Term(last)] if differentiable else []
        summed.residuals += [] if residual is None else [residual.handle]
        size = pending.output_size() if last.train.dim() == 4 else ()
        summed.shape = (len(pending.p) // options.timesteps, len(pending.weight), *size)
        _append(summed, pending, residual)
    return summed


def _take_event_driven(branches: list[Branch]) -> tuple[Branch | None, events.Current | None]:
    """Remove the last event-driven branch without a BatchNorm; return it and its output."""
    for at, branch in reversed([*enumerate(branches)]):
        if branch.linear is None or branch.norm is not None:
            continue
        branches[at] = branch.as_operand()
        output = branches[at].event_driven_output()
        if output is not None:
            return branches.pop(at), output
    return None, None


def _take_residual(branches: list[Branch]) -> SpikeTrain | None:
    """Remove a branch that is nothing but spikes in bytes, if there is one; return these."""
    for at, branch in enumerate(branches):
        train = branch.train
        if branch.linear is None and train.binary and train.values.dtype == torch.uint8:
            return branches.pop(at).train
    return None


def _append(summed: Summed, last: events.Current, residual: SpikeTrain | None) -> None:
    """Let the current end with `last`, to which its other terms are added."""
    T, y, spikes, amplitude = summed.options.timesteps, None, None, 0.0
    if summed.y is not None:
        y = summed.images(summed.y.to(summed.dtype).expand(T, -1, -1).contiguous())
    if residual is not None:
        spikes, amplitude = residual.values, residual.amplitude.item()
        spikes = spikes.bits if isinstance(spikes, SpikeBits) else spikes
    summed.pending = last._replace(steps=T, y=y, residual=spikes, amplitude=amplitude)


def _add_branch(
    summed: Summed, branch: Branch, d: Dynamics, differentiable: bool, scratch: Scratch | None
) -> None:
    """Add a branch to the current, which may begin in scratch memory."""
    options = summed.options
    if branch.linear is None:
        output = branch.train.as_addend()
    else:
        branch = branch.as_operand()
        output = branch.output(None if branch.norm is not None else scratch)
    steps = 1 if branch.train.static else options.timesteps
    summed.shape = (len(output) // steps, *output.shape[1:])
    a = rows(output).unflatten(0, (steps, -1))
    scale, shift = branch.train.amplitude, None
    if branch.linear is None:
        summed.residuals.append(branch.train.handle)
        if branch.train.levels is not None:
            a, scale = branch.train.levels[a.int()], None
    else:
        term, scale, shift = _weighted(branch, a, options, d, differentiable)
        summed.terms += [term] if differentiable else []
    if summed.y is None:
        summed.y = _first(branch, a, scale, shift)
    else:
        summed.y = _add(summed.y, a, scale, shift, options)


def _weighted(
    branch: Branch, a: Tensor, options: FoldedOptions, d: Dynamics, differentiable: bool
) -> tuple[Term, Tensor | None, Tensor | None]:
    """Return the term of a branch with output `a`, and the scale and shift of its BatchNorm."""
    if branch.norm is None:
        return Term(branch), None, None
    affine, _ = normalisation(branch.norm, a, options)
    if not differentiable:
        return Term(branch), affine.slope, affine.offset
    means = Means(*options.kernels.means(a, affine, d, branch.train.compute), affine.inv_std)
    return Term(branch, means, a), affine.slope, affine.offset


def _first(branch: Branch, a: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    """Return the current of the first branch, in its own memory: the others are added in place."""
    if scale is None:
        in_use = branch.linear is None and branch.train.levels is None
        return a.clone() if in_use else a
    y = a.to(accumulator(branch.train.compute)) * scale
    return y if shift is None else y.add_(shift).to(branch.train.compute)


def _add(
    y: Tensor, a: Tensor, scale: Tensor | None, shift: Tensor | None, options: FoldedOptions
) -> Tensor:
    """Return `y + scale * a + shift`, in the memory of `y` unless that is static and `a` is not."""
    if len(y) < len(a):
        y = y.expand_as(a).contiguous()
    one = y.new_ones((), dtype=accumulator(y.dtype))
    options.kernels.add_(y, a, one if scale is None else scale, shift)
    return y


def normalisation(
    norm: Norm, y: Tensor, options: FoldedOptions, centre: bool = False
) -> tuple[Affine, Tensor | None]:
    """Return the affine map of `norm` for the current `y`, and `y_u` where `y` is to be centred."""
    statistics = options.kernels.statistics_(y, centre) if norm.training else None
    affine = norm.affine(statistics, options.timesteps * y.shape[1], options.reduce)
    return affine, statistics.time_mean if centre else None
