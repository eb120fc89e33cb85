"""Backward pass on tensors of batch N: one autograd function per step of docs/method.md, 4.2, 4.3.

Between two neuron layers the gradient at a current is constant over time except for a multiple of
the current itself:

    dy_t = dy_u + k * (y_t - y_u)        with k one number per channel

It is passed as the triple `(dy_u, dy_v, k)`: its plain mean, its weighted mean, and k. At the
output of a neuron layer it is one tensor, `R = T * sum_t v_t g_t`. The edges of the graph are
handles: tensors that take no memory, whose values are never read and whose gradients are the triple
or R. Means have the shape `(N, C, ...)`; the arithmetic runs on their rows `(N*H*W, C)`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from models.dynamics import Dynamics
from models.engines.folded.options import FoldedOptions
from models.engines.ops.linear import Conv2d, Linear
from models.engines.ops.sparse import event_driven, events
from models.engines.ops.sparse.event_driven import Crossings


def handle(like: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Return a tensor of this shape that takes no memory, to carry a gradient."""
    return like.new_empty(()).expand(shape)


def rows(a: Tensor) -> Tensor:
    """Return `(B, C, H, W)` as `(B*H*W, C)`, a view of channels-last memory; `(B, C)` as it is."""
    return a.permute(0, 2, 3, 1).reshape(-1, a.shape[1]) if a.dim() == 4 else a


def unrows(a: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Return the inverse of `rows`, as a channels-last view."""
    if len(shape) == 2:
        return a
    return a.view(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2)


class Means(NamedTuple):
    """Rows `yh_u` and `yh_v` (None if equal) of a normalised current, and `1/sigma`."""

    u: Tensor
    v: Tensor | None
    inv_std: Tensor


class NormSpec(NamedTuple):
    """Constants of a BatchNorm's backward pass: options, and whether it took batch statistics."""

    options: FoldedOptions
    batch_statistics: bool


class Fire(Function):
    """Neuron: `R -> g = leak/T * R * 1[x inside]`, `dVth = Vth_scale * sum R * 1[x above]`."""

    @staticmethod
    def forward(
        ctx,
        Vth: Tensor,
        inside: Tensor,
        above: Tensor,
        d: Dynamics,
        shape,
        options: FoldedOptions,
        *currents,
    ):
        masks = (inside, above)
        if options.crossings is not None and inside.numel() % 8 == 0:  # eight to a byte
            masks = [events.pack_bits(mask.view(torch.uint8)) for mask in masks]
        ctx.save_for_backward(*masks)
        ctx.d, ctx.fire_grad = d, options.kernels.fire_grad
        ctx.num_currents = len(currents)
        ctx.set_materialize_grads(False)
        return handle(Vth, shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, R: Tensor | None):
        if R is None:
            return (None,) * (6 + ctx.num_currents)
        d, r = ctx.d, rows(R)
        g, above = ctx.fire_grad(r, *ctx.saved_tensors, d.leak / d.timesteps)
        dVth = d.Vth_scale * above if ctx.needs_input_grad[0] else None
        return (dVth, *(None,) * 5, *(unrows(g, R.shape),) * ctx.num_currents)


class Normalise(Function):
    """BatchNorm of a whole current: `g -> (dy_u, dy_v, k)`, dgamma, dbeta.

    dy_t = gamma/sigma * (g - m1 - m2 * yh_t),  m1 = <g>,  m2 = <g * yh_u>
    dbeta = T * sum g,  dgamma = T * sum g * yh_u
    Without `batch_statistics`, mean and sigma are constants: `dy_t = gamma/sigma * g`. The
    means run over all ranks that share the batch (`reduce`), the sums over this rank.
    """

    @staticmethod
    def forward(ctx, u, v, k, gamma, beta, spec: NormSpec, means: Means, shape):
        ctx.save_for_backward(gamma, *means)
        ctx.spec = spec
        ctx.set_materialize_grads(False)
        return handle(gamma, shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor | None):
        if grad is None:
            return (None,) * 8
        gamma, mean_u, mean_v, inv_std = ctx.saved_tensors
        options, batch_statistics = ctx.spec
        g, slope = rows(grad), gamma * inv_std
        total, dot = options.kernels.norm_sums(g, mean_u)
        dgamma, dbeta = options.timesteps * dot, options.timesteps * total
        if not batch_statistics:
            dy = unrows(slope * g, grad.shape)
            return dy, dy, None, dgamma, dbeta, *(None,) * 3
        total, dot, count = options.reduce(total, dot, total.new_full((), len(g)))
        m1, tilt = total / count, slope * dot / count
        dy = options.kernels.norm_grad(g, (mean_u, mean_v), m1, slope, tilt)
        dy_u, dy_v = (unrows(a, grad.shape) for a in dy)
        return dy_u, dy_v, -tilt * inv_std, dgamma, dbeta, *(None,) * 3


class NormaliseBranch(Function):
    """BatchNorm inside a branch `q`: `(dy_u, dy_v, k) -> (dq_u, dq_v, k_y, k_q)`, dgamma, dbeta.

    dq_t = gamma/sigma * (dy_t - m1 - m2 * qh_t),  m1 = <dy_u>,  m2 = <dy_u * qh_u> + k * C / sigma
    with `C = <<(y_t - y_u) * (q_t - q_u)>>` per channel (`cov` in docs/method.md). Besides its
    mean, dq_t consists of `k_y * (y_t - y_u) + k_q * (q_t - q_u)`.
    """

    @staticmethod
    def forward(ctx, u, v, k_y, k_q, gamma, beta, spec: NormSpec, means: Means, C):
        ctx.save_for_backward(gamma, *means, C)
        ctx.spec = spec
        ctx.set_materialize_grads(False)
        return handle(gamma, u.shape), handle(gamma, u.shape), handle(gamma, gamma.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy_u: Tensor | None, dy_v: Tensor | None, k: Tensor | None):
        if dy_u is None:
            return (None,) * 9
        gamma, mean_u, mean_v, inv_std, C = ctx.saved_tensors
        a, slope = rows(dy_u), gamma * inv_std
        total, dot = a.sum(0), (a * mean_u).sum(0)
        if k is not None and C is not None:
            dot = dot + len(a) * k * C * inv_std
        options = ctx.spec.options
        dgamma, dbeta = options.timesteps * dot, options.timesteps * total
        k_y = None if k is None else slope * k
        m1, m2 = 0.0, 0.0 * dot
        if ctx.spec.batch_statistics:
            total, dot, count = options.reduce(total, dot, total.new_full((), len(a)))
            m1, m2 = total / count, dot / count

        def through(dy: Tensor, mean: Tensor) -> Tensor:
            return unrows(slope * (rows(dy) - m1 - m2 * mean), dy.shape)

        dq_u = through(dy_u, mean_u)
        dq_v = through(dy_v, mean_u if mean_v is None else mean_v)
        return dq_u, dq_v, k_y, -slope * m2 * inv_std, dgamma, dbeta, *(None,) * 3


class Weigh(Function):
    """A branch's weight: `(dq_u, dq_v, k...) -> R`, dW, dbias.

    dW = wgrad(dq_u, T * p_u) + sum of k * Q,   R = T * L^T(dq_v),   dbias = sum_t dq_t
    with `Q_y` for `k_y` and `Q_q` for `k_q`. The spike train is `amplitude * p`, so every product
    with p is scaled once, in the weight's own type. A bias that a BatchNorm subtracts again
    (`bias_cancels`) has an exactly zero gradient.
    """

    @staticmethod
    def forward(ctx, train, weight, bias, spec: WeighSpec, total, amplitude, Q_y, Q_q):
        ctx.save_for_backward(weight, total, amplitude, Q_y, Q_q)
        ctx.spec, ctx.p_shape = spec, None if train is None else train.shape
        ctx.bias_shape = None if bias is None else bias.shape
        ctx.set_materialize_grads(False)
        channel = (weight.shape[0],)
        return tuple(handle(weight, s) for s in (spec.shape, spec.shape, channel, channel))

    @staticmethod
    @once_differentiable
    def backward(ctx, dq_u, dq_v, k_y, k_q):
        if dq_u is None:
            return (None,) * 8
        weight, total, amplitude, Q_y, Q_q = ctx.saved_tensors
        spec, compute = ctx.spec, ctx.spec.compute
        R = dW = dbias = None
        if ctx.p_shape is not None:
            R = spec.linear.input_grad(dq_v.to(compute), weight.to(compute), ctx.p_shape)
            R = R.to(weight.dtype).mul_(spec.timesteps)
        if ctx.needs_input_grad[1]:
            dW = spec.weight_grad(dq_u.to(compute), total, weight.shape).to(weight.dtype)
            for k, Q in ((k_y, Q_y), (k_q, Q_q)):
                if k is not None and Q is not None:
                    dW.addcmul_(k.view(-1, *(1,) * (weight.dim() - 1)), Q.to(weight.dtype))
            dW = dW if amplitude is None else dW.mul_(amplitude)
            if dW.stride() != weight.stride():  # DDP's gradient buckets have the weight's
                dW = torch.empty_like(weight).copy_(dW)
        if ctx.needs_input_grad[2]:
            dbias = weight.new_zeros(ctx.bias_shape)
            if not spec.bias_cancels:
                dbias = spec.timesteps * rows(dq_u).sum(0)
        return R, dW, dbias, None, None, None, None, None


class WeighSpec(NamedTuple):
    """Constants of `Weigh`: the map, T, the compute type, and the current's shape `(N, C, ...)`.

    `binary` tells that the sum over time of the input is zeros and ones.
    """

    linear: Conv2d | Linear
    timesteps: int
    compute: torch.dtype
    shape: tuple[int, ...]
    bias_cancels: bool
    binary: bool
    crossings: Crossings | None

    def weight_grad(self, dy: Tensor, total: Tensor, shape: torch.Size) -> Tensor:
        """Return the weight's gradient for the sum over time of its input, maybe in bytes."""
        if total.dtype == torch.uint8 and self.crossings is not None:
            at = self.crossings
            return event_driven.weight_grad(self.linear, dy, total, shape, self.binary, at)
        return self.linear.weight_grad(dy, total.to(dy.dtype), shape)


class Pass(Function):
    """A branch without a weight (residual, pooled spike train): `R = T * dy_v`."""

    @staticmethod
    def forward(ctx, train: Tensor, channels: int, timesteps: int):
        ctx.timesteps = timesteps
        ctx.set_materialize_grads(False)
        shape = train.shape
        return handle(train, shape), handle(train, shape), handle(train, (channels,))

    @staticmethod
    @once_differentiable
    def backward(ctx, dy_u, dy_v, k):
        return None if dy_v is None else ctx.timesteps * dy_v, None, None


class Join(Function):
    """A current that is a sum of branches: each receives the same triple."""

    @staticmethod
    def forward(ctx, *handles: Tensor):
        ctx.num_branches = len(handles) // 3
        ctx.set_materialize_grads(False)
        return tuple(handle(h, h.shape) for h in handles[:3])

    @staticmethod
    @once_differentiable
    def backward(ctx, dy_u, dy_v, k):
        return (dy_u, dy_v, k) * ctx.num_branches


class Readout(Function):
    """Representation of the last spike train: `R = T * sum_t v_t^2 * dL/d(output)`."""

    @staticmethod
    def forward(ctx, train: Tensor, representation: Tensor, d: Dynamics):
        ctx.scale = d.timesteps * sum(v * v for v in d.weights)
        return representation

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        return ctx.scale * grad, None, None
