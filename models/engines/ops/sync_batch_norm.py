"""BatchNorm over all ranks of torch's default process group (`--sync_bn`), and its gradient.

Rank r has n_r values per channel with the moments `m_r = <y>` and `s_r = <y^2>`. The moments of the
whole batch are averages weighted by n_r, since ranks may have batches of different size:

    n = sum n_r,   m = sum n_r m_r / n,   s = sum n_r s_r / n,   var = s - m^2

They are exchanged in float64, in which the difference loses no digits that matter.
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

Reduction = Callable[..., tuple[Tensor, ...]]


def local(*parts: Tensor) -> tuple[Tensor, ...]:
    """Return the parts unchanged: the reduction of a rank that normalises its own batch."""
    return parts


def all_reduce_sum(*parts: Tensor) -> tuple[Tensor, ...]:
    """Sum each of the `parts`, tensors of one type, over all ranks in a single all-reduce."""
    if not _several_ranks():
        return parts
    packed = torch.cat([part.flatten() for part in parts])
    dist.all_reduce(packed)
    pieces = packed.split([part.numel() for part in parts])
    return tuple(piece.view_as(part) for piece, part in zip(pieces, parts, strict=True))


def all_reduce_statistics(mean: Tensor, var: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, biased variance and count of the whole batch from those of this rank.

    `mean` and `var` are `(C,)`; the returned count is 0-dim, float64.
    """
    m, n = mean.double(), torch.full((), count, dtype=torch.float64, device=mean.device)
    m, s, n = all_reduce_sum(n * m, n * (var.double() + m * m), n)
    m, s = m / n, s / n
    return m.to(mean.dtype), (s - m * m).clamp_(min=0).to(var.dtype), n


def update_running_statistics(
    running_mean: Tensor,
    running_var: Tensor,
    mean: Tensor,
    var: Tensor,
    count: int | Tensor,
    momentum: float,
) -> None:
    """Update running statistics in place from a batch of `count` values per channel.

    `var` is biased; the running variance follows the unbiased one.
    """
    unbiased = var * (count / (count - 1))
    running_mean.lerp_(mean.to(running_mean.dtype), momentum)
    running_var.lerp_(unbiased.to(running_var.dtype), momentum)


class SyncBatchNormMode(TorchFunctionMode):
    """Within this mode, `F.batch_norm` on tensors takes batch statistics over all ranks."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        function = _batch_norm if func is F.batch_norm and _several_ranks() else func
        return function(*args, **(kwargs or {}))


def _several_ranks() -> bool:
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
        mean, var, count = all_reduce_statistics(own_mean, own_var, x.numel() // x.shape[1])
        if running_mean is not None:
            update_running_statistics(running_mean, running_var, mean, var, count, momentum)
    return _Normalise.apply(x, weight, bias, mean, torch.rsqrt(var + eps))


class _Normalise(Function):
    """`z = gamma * xh + beta`, `xh = (x - mean) / sigma`, where mean and sigma depend on all x:

    dx = gamma/sigma * (g - <g> - xh * <g * xh>),  dgamma = sum g * xh,  dbeta = sum g

    The means `<.>` run over all ranks. The sums run over this rank alone, because gradients are
    averaged over ranks afterwards.
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
        total, dot, count = all_reduce_sum(dbeta, dgamma, count)
        g = g - _channels(total / count, x) - xh * _channels(dot / count, x)
        dx = (g * _channels(gamma * inv_std, x)).to(x.dtype)
        return dx, dgamma.to(gamma.dtype), dbeta.to(gamma.dtype), None, None


def _channels(a: Tensor, like: Tensor) -> Tensor:
    return a.view(-1, *(1,) * (like.dim() - 2))
