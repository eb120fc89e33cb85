"""One neuron layer of the folded engine: `sum of branches -> [BatchNorm] -> neuron`, and its graph.

Currents are `(S, M, C)`: S = T steps, or 1 for a static current; M = N*H*W rows.
"""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from models.dynamics import Dynamics, accumulator
from models.engines.folded import autograd as grad
from models.engines.folded.autograd import Means
from models.engines.folded.norm import Norm
from models.engines.folded.options import FoldedOptions
from models.engines.folded.spike_train import Current, SpikeTrain
from models.engines.folded.summed import Summed, Term, sum_branches


def fire(x: SpikeTrain | Current, Vth: Tensor, d: Dynamics) -> SpikeTrain:
    """Return the spike train of a neuron layer; the current that drives it is used up.

    Where gradients are enabled, the spike train has a handle on the graph. Raises `RuntimeError`
    for a current that has driven a neuron layer already.
    """
    current = x.as_current()
    norm, options, kernels = current.norm, current.options, current.options.kernels
    differentiable = torch.is_grad_enabled()
    threshold = Vth.detach()
    with torch.no_grad():
        summed = sum_branches(current.take_branches(), options, d, differentiable)
        affine, time_mean = summed.normalisation(norm, needs_centred_current(summed, norm))
        if not differentiable:
            spikes = summed.spikes(affine, threshold, d)
            return summed.spike_train(spikes, threshold * d.amplitude)
        y, spike_dtype = summed.current(), options.spike_dtype(summed.dtype)
        covariances = temporal_covariances(summed, norm)
        free_spikes(summed)
        folded = kernels.fold(y, time_mean, affine, threshold, d, summed.dtype, spike_dtype)
    means = None if affine is None else Means(folded.mean_u, folded.mean_v, affine.inv_std)
    z = input_handles(summed, covariances, norm, means)
    handle = grad.Fire.apply(Vth, folded.inside, folded.above, d, summed.shape, options, *z)
    return summed.spike_train(folded.spikes, threshold * d.amplitude, handle, folded.count)


# Temporal covariances


class Covariances(NamedTuple):
    """Temporal covariances of one weighted branch (docs/method.md, section 4), None where zero."""

    Q_y: Tensor | None = None  # as the weight: Q
    Q_q: Tensor | None = None  # as the weight
    C: Tensor | None = None  # (C,): cov


def needs_centred_current(summed: Summed, norm: Norm | None) -> bool:
    """Return whether a covariance needs the current centred by its mean over time."""
    return _gradient_varies(summed, norm) and any(
        term.q is not None or term.branch.wants_covariance()
        for term in summed.terms
        if _varies(term)
    )


def temporal_covariances(summed: Summed, norm: Norm | None) -> list[Covariances]:
    """Return the covariances of each term.

    The current must have been centred (`needs_centred_current`); every `q` is centred here.
    """
    return [_covariances(summed, term, norm) for term in summed.terms]


def _covariances(summed: Summed, term: Term, norm: Norm | None) -> Covariances:
    if not _varies(term):
        return Covariances()
    branch, kernels = term.branch, summed.options.kernels
    wanted, gradient_varies = branch.wants_covariance(), _gradient_varies(summed, norm)
    Q_y = Q_q = C = None
    if wanted and gradient_varies:
        Q_y = branch.weight_grad(summed.images(summed.y))
    if term.q is not None:
        kernels.statistics_(term.q, True)
        C = kernels.covariance(summed.y, term.q) if gradient_varies else None
        if wanted and branch.norm.training:
            Q_q = branch.weight_grad(summed.images(term.q))
    return Covariances(Q_y, Q_q, C)


def _varies(term: Term) -> bool:
    """Return whether the weight's input varies over time."""
    return not term.branch.train.static and term.branch.train.options.timesteps > 1


def _gradient_varies(summed: Summed, norm: Norm | None) -> bool:
    """Return whether the gradient at the current varies over time, by a multiple of `y_t - y_u`."""
    return norm is not None and norm.training and summed.steps > 1


def free_spikes(summed: Summed) -> None:
    """Free the spike trains of the terms; one that the network still holds is packed.

    The network holds it as a residual of a later current.
    """
    for term in summed.terms:
        term.q = None
        train = weakref.ref(term.branch.train)
        term.branch = replace(term.branch, train=term.branch.train.without_values())
        if (residual := train()) is not None and not residual.static:
            residual.pack()


# The graph: from the neuron back to the branches, on tensors of batch N


def input_handles(
    summed: Summed, covariances: list[Covariances], norm: Norm | None, means: Means | None
) -> tuple[Tensor, ...]:
    """Return the handles of the neuron's input: of `z`, or of `y_u` and `y_v` without BatchNorm."""
    u, v, k = _current_handles(summed, covariances, norm)
    if norm is None:
        return u, v
    spec = _norm_spec(norm, summed.options)
    z = grad.Normalise.apply(u, v, k, norm.gamma, norm.beta, spec, means, summed.shape)
    return (z,)


def _norm_spec(norm: Norm, options: FoldedOptions) -> grad.NormSpec:
    return grad.NormSpec(options, norm.training)


def _current_handles(
    summed: Summed, covariances: list[Covariances], norm: Norm | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the handles of the current, joined to those of all branches."""
    channels, timesteps = summed.shape[1], summed.options.timesteps
    branches = [
        _weighted_handles(summed, term, found, norm)
        for term, found in zip(summed.terms, covariances, strict=True)
    ]
    residuals = [handle for handle in summed.residuals if handle is not None]
    branches += [grad.Pass.apply(handle, channels, timesteps) for handle in residuals]
    if not branches:  # the neurons stand directly on the network's input, which has no gradient
        like = summed.y.new_zeros((), dtype=accumulator(summed.y.dtype))
        return tuple(grad.handle(like, s) for s in (summed.shape, summed.shape, (channels,)))
    return branches[0] if len(branches) == 1 else grad.Join.apply(*(h for b in branches for h in b))


def _weighted_handles(
    summed: Summed, term: Term, found: Covariances, norm: Norm | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the handles of one branch's contribution to the current."""
    branch, train, own = term.branch, term.branch.train, term.branch.norm
    options = summed.options
    spec = grad.WeighSpec(
        branch.linear,
        options.timesteps,
        summed.dtype,
        summed.shape,
        bias_cancels=any(n is not None and n.training for n in (own, norm)),
        binary=train.binary and options.timesteps == 1,
        crossings=options.crossings,
    )
    u, v, k_y, k_q = grad.Weigh.apply(
        train.handle,
        branch.weight,
        branch.bias,
        spec,
        train.total,
        train.amplitude,
        found.Q_y,
        found.Q_q,
    )
    if own is None:
        return u, v, k_y
    spec = _norm_spec(own, options)
    return grad.NormaliseBranch.apply(
        u, v, k_y, k_q, own.gamma, own.beta, spec, term.means, found.C
    )
