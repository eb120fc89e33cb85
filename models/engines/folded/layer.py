"""One neuron layer of the folded engine: `sum of branches -> [BatchNorm] -> neuron`, and its graph.

Currents are rows `(S, M, C)`: S = T steps, or one step where the current is static; M = N*H*W.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from models.dynamics import Affine, Dynamics, Folded, Statistics, accumulator
from models.engines.folded import autograd as grad
from models.engines.folded.autograd import Means, rows, unrows
from models.engines.ops import sync_batch_norm

if TYPE_CHECKING:
    from models.engines.folded.spike_train import Branch, FoldedEngine


@dataclass
class Norm:
    """The arguments of `torch.nn.functional.batch_norm`, and what they make of a current."""

    running_mean: Tensor | None
    running_var: Tensor | None
    gamma: Tensor
    beta: Tensor
    training: bool
    momentum: float
    eps: float

    def affine(self, of: Statistics | None, samples: int, shared: bool = False) -> Affine:
        """The map of a current with these statistics, None in evaluation; running ones follow.

        `samples` is the number of values a channel that they stand for (T*N*H*W, whether or not
        the current is static), for the unbiased running variance; where the batch is `shared`,
        statistics become those of all processes. Raises `ValueError` for one value alone.
        """
        if of is None:
            var, mean = self.running_var, self.running_mean
        else:
            if samples == 1 and not shared:
                raise ValueError("a BatchNorm in training needs more than 1 value a channel")
            mean, var = of.mean, of.var
            if shared:
                mean, var, samples = sync_batch_norm.statistics(mean, var, samples)
            if self.running_mean is not None:
                running = self.running_mean, self.running_var
                sync_batch_norm.follow(*running, mean, var, samples, self.momentum)
        # Detached: the compiler would make one kernel a layer width out of bare parameters.
        return Affine(mean, torch.rsqrt(var + self.eps), self.gamma.detach(), self.beta.detach())


@dataclass
class Term:
    """A weighted branch at work: what is computed of it between its output and its graph node."""

    branch: Branch
    means: Means | None = None  # of its own BatchNorm
    q: Tensor | None = None  # its output (S, M, C), kept only for that BatchNorm's gradient
    Q_y: Tensor | None = None
    Q_q: Tensor | None = None
    C: Tensor | None = None


class Fired(NamedTuple):
    """A neuron layer's output, shaped like its current: see `folded.Train`."""

    values: Tensor
    amplitude: Tensor
    handle: Tensor | None
    count: Tensor | None


class Unit:
    """The branches of one current (weighted ones first), their BatchNorm and their neuron."""

    def __init__(
        self,
        engine: FoldedEngine,
        branches: list[Branch],
        norm: Norm | None,
        Vth: Tensor,
        d: Dynamics,
    ) -> None:
        self.kernels, self.T, self.sum = engine.kernels, engine.timesteps, engine.sum
        self.norm, self.Vth, self.d = norm, Vth, d
        self.compute = branches[0].train.compute
        self.differentiable = torch.is_grad_enabled()
        self.residuals: list[Tensor] = []  # handles of the branches without a weight
        self.terms: list[Term] = []  # the branches with one
        with torch.no_grad():
            self.y = self._sum(branches)

    def fire(self) -> Fired:
        """The neuron's train; where gradients are on, with a handle on the graph."""
        with torch.no_grad():
            affine, mean = self._affine(self.norm, self.y, centres=self._centres())
            Vth = self.Vth.detach()
            amplitude = Vth * self.d.amplitude
            # A static current goes without its only step: the same z at each.
            y = self.y[0] if len(self.y) < self.T else self.y
            if not self.differentiable:
                spikes = self.kernels.spikes(y, affine, Vth, self.d, self.compute)
                return Fired(self._shaped(spikes), amplitude, None, None)
            self._covary()
            folded = self.kernels.fold(y, mean, affine, Vth, self.d, self.compute)
        handle = self._graph(folded, affine)
        count = unrows(folded.count, self.shape)
        return Fired(self._shaped(folded.spikes), amplitude, handle, count)

    # Forward: the current

    def _sum(self, branches: list[Branch]) -> Tensor:
        """The current's rows `(S, M, C)`; trains without a weight are let go as they are added."""
        y = None
        while branches:
            branch = branches.pop(0)
            a, scale, shift = self._output(branch)
            if y is None:
                y = self._first(branch, a, scale, shift)
                continue
            if len(y) < len(a):
                y = y.expand_as(a).contiguous()
            one = y.new_ones((), dtype=accumulator(y.dtype))
            self.kernels.add_(y, a, one if scale is None else scale, shift)
        return y

    def _output(self, branch: Branch) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """A branch's rows, and the scale and shift they still have to get."""
        output = branch.output()
        steps = 1 if branch.train.static else self.T
        self.shape = (len(output) // steps, *output.shape[1:])
        a = rows(output).unflatten(0, (steps, -1))
        if branch.linear is None:
            self.residuals.append(branch.train.handle)
            return a, branch.train.amplitude, None
        term = Term(branch)
        if self.differentiable:
            self.terms.append(term)
        if branch.norm is None:
            return a, None, None
        affine, _ = self._affine(branch.norm, a)
        if self.differentiable:
            term.q = a
            term.means = Means(*self.kernels.means(a, affine, self.d, self.compute), affine.inv_std)
        return a, affine.slope, affine.offset

    def _first(
        self, branch: Branch, a: Tensor, scale: Tensor | None, shift: Tensor | None
    ) -> Tensor:
        """The current of the first branch, in memory of its own: what follows works in place."""
        if scale is None:
            return a if branch.linear is not None else a.clone()
        y = a.to(accumulator(branch.train.compute)) * scale
        return y if shift is None else y.add_(shift).to(self.compute)

    def _affine(
        self, norm: Norm | None, y: Tensor, centres: bool = False
    ) -> tuple[Affine | None, Tensor | None]:
        """The map of `norm` for the current `y`; where `centres`, `y` loses its time mean `y_u`."""
        if norm is None:
            return None, None
        statistics = self.kernels.statistics_(y, centres) if norm.training else None
        shared = self.sum is not sync_batch_norm.alone
        affine = norm.affine(statistics, self.T * y.shape[1], shared)
        return affine, statistics.time_mean if centres else None

    def _shaped(self, spikes: Tensor) -> Tensor:
        return unrows(spikes.flatten(0, 1), (self.T * self.shape[0], *self.shape[1:]))

    # What the backward pass needs beside the means

    def _y_matters(self) -> bool:
        """Whether the gradient at the current varies in time, as a multiple of `y_t - y_u`."""
        return self.norm is not None and self.norm.training and len(self.y) > 1

    def _in_time(self) -> list[Term]:
        """The branches whose weight sees a train that varies in time."""
        return [term for term in self.terms if not term.branch.train.static and self.T > 1]

    def _centres(self) -> bool:
        """Whether a covariance needs `y` about its mean."""
        return self._y_matters() and any(
            t.q is not None or t.branch.wants_covariance() for t in self._in_time()
        )

    def _covary(self) -> None:
        """Temporal covariances `Q_y, Q_q, C` of every weighted branch, whose trains then go.

        A train that the network still holds is a residual, and is packed.

        Of `y` centred, where `_centres`; every `q` is centred here.
        """
        y_matters = self._y_matters()
        for term in self._in_time():
            wanted = term.branch.wants_covariance()
            if y_matters and wanted:
                term.Q_y = self._covariance(term.branch, self.y)
            if term.q is not None:
                self.kernels.statistics_(term.q, True)
                term.C = self.kernels.covariance(self.y, term.q) if y_matters else None
                if wanted and term.branch.norm.training:
                    term.Q_q = self._covariance(term.branch, term.q)
        for term in self.terms:
            term.q = None
            others = weakref.ref(term.branch.train)
            term.branch.train = term.branch.train.without_values()
            if (residual := others()) is not None and not residual.static:
                residual.pack()

    def _covariance(self, branch: Branch, a: Tensor) -> Tensor:
        return branch.weight_grad(self._shaped(a))

    # Graph: from the neuron back to its branches, on tensors of batch N

    def _graph(self, folded: Folded, affine: Affine | None) -> Tensor:
        currents = [self._weigh(term) for term in self.terms]
        channels = self.shape[1]
        currents += [grad.Pass.apply(h, channels, self.T) for h in self.residuals if h is not None]
        if not currents:  # straight on the network's input, which takes no gradient
            currents = [
                [grad.handle(self.Vth.detach(), s) for s in (self.shape,) * 2 + ((channels,),)]
            ]
        flat = [h for current in currents for h in current]
        u, v, k = flat if len(currents) == 1 else grad.Join.apply(*flat)
        if self.norm is None:
            z = (u, v)
        else:
            means = Means(folded.mean_u, folded.mean_v, affine.inv_std)
            z = (
                grad.Normalise.apply(
                    u,
                    v,
                    k,
                    self.norm.gamma,
                    self.norm.beta,
                    means,
                    self.shape,
                    self.T,
                    self.norm.training,
                    self.sum,
                ),
            )
        return grad.Fire.apply(self.Vth, folded.inside, folded.above, self.d, self.shape, *z)

    def _weigh(self, term: Term) -> tuple[Tensor, Tensor, Tensor]:
        branch, own = term.branch, term.branch.norm
        spec = grad.WeighSpec(
            branch.linear,
            self.T,
            self.compute,
            self.shape,
            bias_cancels=any(n is not None and n.training for n in (own, self.norm)),
        )
        train = branch.train
        u, v, k_y, k_q = grad.Weigh.apply(
            train.handle,
            branch.weight,
            branch.bias,
            spec,
            train.total,
            train.amplitude,
            term.Q_y,
            term.Q_q,
        )
        if own is None:
            return u, v, k_y
        return grad.NormaliseBranch.apply(
            u, v, k_y, k_q, own.gamma, own.beta, term.means, term.C, self.T, own.training, self.sum
        )
