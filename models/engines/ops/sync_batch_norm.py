"""BatchNorm over all processes of torch's default group (`--sync_bn`): sums, and their gradient.

A batch of n values a channel has the moments `m = <y>` and `s = <y^2>`; those of a batch that
several processes share are averages over them, each by its own n, since shares may differ:

    n = sum n_r,   m = sum n_r m_r / n,   s = sum n_r s_r / n,   var = s - m^2

They travel in float64, where the difference is safe. Without a group every sum is its own part.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

Sum = Callable[..., tuple[Tensor, ...]]


def alone(*parts: Tensor) -> tuple[Tensor, ...]:
    """The parts as they are: what a process has to add up with nobody."""
    return parts


def over_processes(*parts: Tensor) -> tuple[Tensor, ...]:
    """Each of the `parts`, of one type, summed over all processes in a single exchange."""
    if not _several():
        return parts
    packed = torch.cat([part.flatten() for part in parts])
    dist.all_reduce(packed)
    pieces = packed.split([part.numel() for part in parts])
    return tuple(piece.view_as(part) for piece, part in zip(pieces, parts, strict=True))


def statistics(mean: Tensor, var: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, biased variance and count of a batch, of which this process has seen `count` values.

    `mean` and `var` `(C,)` are those of its own values; the count is 0-dim, float64.
    """
    m, n = mean.double(), torch.full((), count, dtype=torch.float64, device=mean.device)
    m, s, n = over_processes(n * m, n * (var.double() + m * m), n)
    m, s = m / n, s / n
    return m.to(mean.dtype), (s - m * m).clamp_(min=0).to(var.dtype), n


def follow(
    running_mean: Tensor, running_var: Tensor, mean: Tensor, var: Tensor, count, momentum: float
) -> None:
    """Move the running statistics towards those of a batch of `count`; the variance unbiased."""
    unbiased = var * (count / (count - 1))
    running_mean.lerp_(mean.to(running_mean.dtype), momentum)
    running_var.lerp_(unbiased.to(running_var.dtype), momentum)


class BatchNormOverProcesses(TorchFunctionMode):
    """Makes `F.batch_norm` on tensors, where it takes batch statistics, take those of all."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        function = _batch_norm if func is F.batch_norm and _several() else func
        return function(*args, **(kwargs or {}))


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _batch_norm(
    x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
) -> Tensor:
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    with torch.no_grad():
        dims = [0, *range(2, x.dim())]
        own_var, own_mean = torch.var_mean(
            x.to(torch.promote_types(x.dtype, torch.float32)), dims, correction=0
        )
        mean, var, count = statistics(own_mean, own_var, x.numel() // x.shape[1])
        if running_mean is not None:
            follow(running_mean, running_var, mean, var, count, momentum)
    return _Normalise.apply(x, weight, bias, mean, torch.rsqrt(var + eps))


class _Normalise(Function):
    """`z = gamma * xh + beta`, `xh = (x - mean) / sigma`, where mean and sigma depend on all x:

    dx = gamma/sigma * (g - <g> - xh * <g * xh>),  dgamma = sum g * xh,  dbeta = sum g

    with means `<.>` over all processes, and sums over one: those are averaged like all gradients.
    """

    @staticmethod
    def forward(ctx, x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, inv_std: Tensor):
        ctx.save_for_backward(x, gamma, mean, inv_std)
        slope = gamma * inv_std
        offset = beta - mean * slope
        return (x * _channels(slope, x) + _channels(offset, x)).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor):
        x, gamma, mean, inv_std = ctx.saved_tensors
        dims = [0, *range(2, x.dim())]
        xh = (x - _channels(mean, x)) * _channels(inv_std, x)
        dbeta, dgamma = g.sum(dims, dtype=mean.dtype), (g * xh).sum(dims)
        count = mean.new_full((), x.numel() // x.shape[1])
        total, dot, count = over_processes(dbeta, dgamma, count)
        g = g - _channels(total / count, x) - xh * _channels(dot / count, x)
        dx = (g * _channels(gamma * inv_std, x)).to(x.dtype)
        return dx, dgamma.to(gamma.dtype), dbeta.to(gamma.dtype), None, None


def _channels(a: Tensor, like: Tensor) -> Tensor:
    return a.view(-1, *(1,) * (like.dim() - 2))
