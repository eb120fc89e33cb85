"""torch's functions on spike trains and currents: the linear maps between two neuron layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from models.engines.folded.spike_train import (
    HINT,
    TORCH_FUNCTIONS,
    Branch,
    Current,
    Deferred,
    Norm,
    SpikeTrain,
    misplaced,
)
from models.engines.ops.linear import Conv2d, Linear

Sides = tuple[int, int]


def _implements(torch_function: Callable) -> Callable[[Callable], Callable]:
    """Return a decorator that enters a function into the table for `torch_function`."""

    def enter(function: Callable) -> Callable:
        TORCH_FUNCTIONS[torch_function] = function
        return function

    return enter


def _spike_train(x: SpikeTrain | Current, name: str) -> SpikeTrain:
    """Return `x` if it is a spike train; raises `TypeError` for a current."""
    if not isinstance(x, SpikeTrain):
        raise TypeError(misplaced(name))
    return x


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    """Return height and width of an option that may be given as one number."""
    sides = (value,) if isinstance(value, int) else tuple(value)
    return sides * 2 if len(sides) == 1 else sides


@_implements(F.conv2d)
def _conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Current:
    if isinstance(padding, str):
        raise TypeError(f"padding {padding!r} of a convolution must be given in numbers, {HINT}")
    train = _spike_train(x, "conv2d")
    linear = Conv2d(_pair(stride), _pair(padding), _pair(dilation), groups)
    return Current(train.options, [Branch(train, linear, weight, bias)])


@_implements(F.linear)
def _linear(x, weight, bias=None) -> Current:
    return Current(x.options, [Branch(_spike_train(x, "linear"), Linear(), weight, bias)])


@_implements(F.batch_norm)
def _batch_norm(
    x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
) -> Current:
    current = x.as_current()
    if current.norm is not None:
        raise TypeError(
            f"a BatchNorm must not directly follow another: put a neuron layer between them, {HINT}"
        )
    if weight is None or bias is None:
        raise TypeError(f"a BatchNorm must have a weight and a bias (affine=True), {HINT}")
    norm = Norm(running_mean, running_var, weight, bias, training, momentum, eps)
    return Current(current.options, current.branches, norm)


@_implements(torch.add)
def _add(x, other) -> Current:
    return x + other if isinstance(x, Deferred) else other + x


@_implements(F.dropout)
def _dropout(x, p=0.5, training=True, inplace=False) -> SpikeTrain:
    return _spike_train(x, "dropout").drop(p) if training and p > 0 else x


@_implements(F.avg_pool2d)
def _avg_pool2d(
    x,
    kernel_size,
    stride=None,
    padding=0,
    ceil_mode=False,
    count_include_pad=True,
    divisor_override=None,
) -> SpikeTrain:
    def pool(a: Tensor, divisor: int | None = divisor_override) -> Tensor:
        return F.avg_pool2d(a, size, stride, padding, ceil_mode, count_include_pad, divisor)

    train, size = _spike_train(x, "avg_pool2d"), _pair(kernel_size)
    whole_windows = not ceil_mode and (count_include_pad or _pair(padding) == (0, 0))
    if train.binary and whole_windows and divisor_override is None:
        step = size if stride is None else _pair(stride)
        count = partial(_count_bytes, size=size, stride=step, padding=_pair(padding))
        return train.count(
            pool,
            lambda a: count(a) if a.dtype == torch.uint8 else pool(a, 1),
            _levels(train.amplitude, size),
        )
    return train.average(pool)


def _count_bytes(a: Tensor, size: Sides, stride: Sides, padding: Sides) -> Tensor:
    """Return the sums over windows of bytes `(B, C, H, W)`, in bytes as well."""
    (top, left), (down, right) = padding, stride
    a = F.pad(a, (left, left, top, top)) if top or left else a
    height, width = ((n - k) // s + 1 for n, k, s in zip(a.shape[2:], size, stride, strict=True))
    corners = (
        a[:, :, y : y + down * (height - 1) + 1 : down, x : x + right * (width - 1) + 1 : right]
        for y in range(size[0])
        for x in range(size[1])
    )
    total = next(corners).clone(memory_format=torch.channels_last)
    for corner in corners:
        total += corner
    return total


def _levels(amplitude: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the averages of windows with 0, 1, 2, ... spikes, as the pooling function rounds them.

    A window's average depends on its number of spikes alone, wherever they are: the terms of the
    sum are the amplitude and zeros.
    """
    pixels = size[0] * size[1]
    spikes = amplitude.new_ones(pixels + 1, pixels).tril(-1)  # k in row k
    return F.avg_pool2d((spikes * amplitude).view(-1, 1, *size), size).flatten()


@_implements(F.adaptive_avg_pool2d)
def _adaptive_avg_pool2d(x, output_size) -> SpikeTrain:
    train = _spike_train(x, "adaptive_avg_pool2d")
    return train.average(lambda a: F.adaptive_avg_pool2d(a, output_size))


@_implements(torch.flatten)
def _flatten(x, start_dim=0, end_dim=-1) -> SpikeTrain:
    return x.flatten(start_dim, end_dim)
