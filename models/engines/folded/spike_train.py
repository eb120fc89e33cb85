"""The time-folded engine: exact DSR gradients with nothing of size T*N kept (method.md section 4).

A network written for tensors runs on two stand-ins: a `Train` leaves a neuron (or the input), a
`Current` is the lazy sum of the linear branches that feed the next one. Torch's own functions
build them through `__torch_function__`; a neuron layer computes its current, fires, and adds one
node a branch to a graph whose edges are of batch N (`folded_grad`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from models.dynamics import Dynamics, accumulator, weighted_mean
from models.engines.folded import autograd as grad
from models.engines.folded.layer import Norm, Unit
from models.engines.ops.dispatch import Kernels
from models.engines.ops.linear import Conv2d, Linear
from models.engines.ops.sync_batch_norm import Sum, alone


@dataclass(frozen=True)
class FoldedEngine:
    """How trains are computed: T, operand type, elementwise kernels, and whether exactly.

    `dtype` None computes in the parameters' type; `approximate` drops the temporal covariances of
    convolution weights (the `rate` engine); `sum` adds what makes up a BatchNorm's means over the
    processes that share a batch.
    """

    timesteps: int
    kernels: Kernels
    dtype: torch.dtype | None = None
    approximate: bool = False
    sum: Sum = alone

    def compute(self, parameter: torch.dtype) -> torch.dtype:
        return self.dtype or parameter

    def present(self, images: Tensor) -> Train:
        """A train of static images `(N, C, H, W)` or of event frames `(N, T, C, H, W)`."""
        images = images.to(self.compute(images.dtype))
        if images.dim() == 4:
            return Train(self, channels_last(images), static=True)
        if images.dim() != 5 or images.shape[1] != self.timesteps:
            raise ValueError(
                f"expected images (N, C, H, W) or frames (N, {self.timesteps}, C, H, W), "
                f"got {tuple(images.shape)}"
            )
        return Train(self, channels_last(images.transpose(0, 1).flatten(0, 1)))

    def readout(self, train: Train, d: Dynamics) -> Tensor:
        """`sum_t v_t s_t`, `(N, classes)`."""
        values = train.values.unflatten(0, (self.timesteps, -1)).to(train.amplitude.dtype)
        representation = train.amplitude * weighted_mean(values, d)
        if train.handle is None:
            return representation
        return grad.Readout.apply(train.handle, representation, d)


class _Deferred:
    """What trains and currents share: torch's functions, called on them, look here."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func not in _FUNCTIONS:
            raise TypeError(
                f"the folded engine needs linear maps between neurons, not {func.__name__}; "
                "use the unrolled engine for this network"
            )
        return _FUNCTIONS[func](*args, **(kwargs or {}))

    def __add__(self, other: Train | Current) -> Current:
        return Current(self.engine, self.as_current().terms() + other.as_current().terms())


class Train(_Deferred):
    """A train between two layers: `amplitude * values`, with a handle for its gradient R.

    `values` `(T*N, C, ...)`, time-major, or `(N, C, ...)` where it is `static`; `binary` where they
    are zeros and ones. `handle` `(N, C, ...)`, None for the network's input.
    """

    def __init__(
        self,
        engine: FoldedEngine,
        values: Tensor | None,
        amplitude: Tensor | None = None,
        handle: Tensor | None = None,
        total: Tensor | None = None,
        static: bool = False,
        binary: bool = False,
    ) -> None:
        self.engine, self.values, self.amplitude, self.handle = engine, values, amplitude, handle
        self.static, self.binary = static, binary
        self._total = total
        self.compute = None if values is None else values.dtype

    def pack(self) -> None:
        """Keep spikes as bytes, for a residual that waits while a whole branch is computed."""
        if self.binary:
            self.values = self.engine.kernels.recode(self.values, torch.uint8)

    def unpacked(self) -> Train:
        """This train, its values in the compute type."""
        if self.values.dtype == self.compute:
            return self
        values, total = self.engine.kernels.recode(self.values, self.compute), self._total
        return Train(
            self.engine, values, self.amplitude, self.handle, total, self.static, self.binary
        )

    @property
    def total(self) -> Tensor:
        """`sum_t` of the values, `(N, C, ...)`."""
        if self._total is None:
            T = self.engine.timesteps
            steps = self.values.unflatten(0, (1 if self.static else T, -1))
            total = _sum(steps, accumulator(steps.dtype))
            self._total = (total * T if self.static else total).to(steps.dtype)
        return self._total

    def dim(self) -> int:
        return self.values.dim()

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Train:
        return self.map(lambda a: a.flatten(start_dim, end_dim))

    def map(self, linear: Callable[[Tensor], Tensor]) -> Train:
        """The train behind a linear map without a weight, the same at every step."""
        return Train(
            self.engine,
            linear(self.unpacked().values),
            self.amplitude,
            None if self.handle is None else linear(self.handle),
            None if self._total is None else linear(self._total.to(self.compute)),
            self.static,
        )

    def without_values(self) -> Train:
        """What the backward pass needs of it; the values can die."""
        return Train(self.engine, None, self.amplitude, self.handle, self.total, static=self.static)

    def drop(self, p: float) -> Train:
        """Dropout with a fresh mask a step.

        An approximation: `R = T * sum_t v_t m_t g_t` is taken as `(sum_t v_t m_t) * R` of what
        follows, mask and temporal fluctuation of the gradient as uncorrelated.
        """
        if self.static:
            raise TypeError("dropout on a static image: use the unrolled engine for this network")
        if self.amplitude is None:
            raise TypeError("dropout on event frames: use the unrolled engine for this network")
        values, T = self.unpacked().values, self.engine.timesteps
        keep, kept = _mask(values, p)
        times = _sum(keep.view(torch.uint8).unflatten(0, (T, -1)), torch.int16)
        share = times / (kept * T)
        handle = None if self.handle is None else self.handle * share.to(self.handle.dtype)
        return Train(self.engine, values * keep, self.amplitude / kept, handle, binary=True)

    def as_current(self) -> Current:
        return Current(self.engine, [Branch(self)])


@dataclass
class Branch:
    """One term of a current: a train, behind a weight or not, behind its own BatchNorm or not."""

    train: Train
    linear: Conv2d | Linear | None = None
    weight: Tensor | None = None
    bias: Tensor | None = None
    norm: Norm | None = None

    def output(self) -> Tensor:
        """`L(p)` with the amplitude folded into the weight, before any cast; or the bare train,
        which may be packed."""
        if self.linear is None:
            return self.train.values
        self.train = train = self.train.unpacked()
        compute = train.compute
        weight = self.weight if train.amplitude is None else self.weight * train.amplitude
        bias = None if self.bias is None else self.bias.to(compute)
        return self.linear(train.values, channels_last(weight.to(compute)), bias)

    def weight_grad(self, dy: Tensor) -> Tensor:
        """`sum_t wgrad(dy_t, p_t)` for a gradient `(T*N, ...)` at the output."""
        return self.linear.weight_grad(dy, self.train.values, self.weight.shape)

    def wants_covariance(self) -> bool:
        """Whether `Q` is to be computed: not where it is zero, nor where it is given up."""
        engine = self.train.engine
        if self.train.static or engine.timesteps == 1 or not self.weight.requires_grad:
            return False
        return not engine.approximate or isinstance(self.linear, Linear)


@dataclass
class Current(_Deferred):
    """The lazy sum of branches that one neuron layer will integrate, behind a BatchNorm or not."""

    engine: FoldedEngine
    branches: list[Branch]
    norm: Norm | None = None

    def dim(self) -> int:
        return self.branches[0].train.dim()

    def as_current(self) -> Current:
        return self

    def terms(self) -> list[Branch]:
        """The branches as terms of a larger sum, this current's BatchNorm moved into its own."""
        if self.norm is None:
            return self.branches
        if len(self.branches) != 1 or self.branches[0].linear is None:
            raise TypeError("a BatchNorm inside a sum must stand behind one weight")
        return [replace(self.branches[0], norm=self.norm)]

    def fire(self, Vth: Tensor, d: Dynamics) -> Train:
        """The train of the neuron layer that this current drives; the current is spent by it."""
        if not self.branches:
            raise RuntimeError("a current drives one neuron layer; this one has fired already")
        branches = sorted(self.branches, key=lambda branch: branch.linear is None)
        self.branches.clear()  # so that trains die as soon as they are summed
        fired = Unit(self.engine, branches, self.norm, Vth, d).fire()
        return Train(self.engine, *fired, binary=True)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    """A side for both directions where one is given, as torch takes it."""
    sides = (value,) if isinstance(value, int) else tuple(value)
    return sides * 2 if len(sides) == 1 else sides


def _sum(steps: Tensor, dtype: torch.dtype) -> Tensor:
    """`sum_t` of `(T, ...)`; several times as fast as `sum(0)` of a narrow type on a CPU."""
    total = steps[0].to(dtype)
    for values in steps[1:]:
        total = total + values
    return total


def _mask(like: Tensor, p: float) -> tuple[Tensor, float]:
    """A random mask, bool, of the shape and order of `like`, and the probability of a True.

    That is `1 - p` to within 2^-17: each draw of 64 bits makes four, since drawing them one by one
    took more time than the convolutions.
    """
    dropped = min(round(p * 2**16), 2**16 - 1)
    draws = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device)
    bits = draws.random_(-(2**63), None).view(torch.int16)[: like.numel()]
    keep = (bits >= dropped - 2**15).as_strided(like.shape, like.stride())
    return keep, 1 - dropped / 2**16


def channels_last(a: Tensor) -> Tensor:
    """`a`, channels last in memory where it has four dimensions."""
    return a.contiguous(memory_format=torch.channels_last) if a.dim() == 4 else a


def _train(x: Train | Current, name: str) -> Train:
    if not isinstance(x, Train):
        raise TypeError(
            f"the folded engine needs a neuron before {name}, not another linear map; "
            "use the unrolled engine for this network"
        )
    return x


def _conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Current:
    if isinstance(padding, str):
        raise TypeError(f"the folded engine needs padding in numbers, not {padding!r}")
    x, linear = _train(x, "conv2d"), Conv2d(_pair(stride), _pair(padding), _pair(dilation), groups)
    return Current(x.engine, [Branch(x, linear, weight, bias)])


def _linear(x, weight, bias=None) -> Current:
    return Current(x.engine, [Branch(_train(x, "linear"), Linear(), weight, bias)])


def _batch_norm(
    x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
) -> Current:
    current = x.as_current()
    if current.norm is not None:
        raise TypeError(
            "a BatchNorm straight behind another: the folded engine needs a neuron between"
        )
    norm = Norm(running_mean, running_var, weight, bias, training, momentum, eps)
    return Current(current.engine, current.branches, norm)


def _dropout(x, p=0.5, training=True, inplace=False) -> Train:
    return _train(x, "dropout").drop(p) if training and p > 0 else x


def _mapped(function):
    def call(x, *args, **kwargs):
        return _train(x, function.__name__).map(lambda a: function(a, *args, **kwargs))

    return call


_FUNCTIONS = {
    F.conv2d: _conv2d,
    F.linear: _linear,
    F.batch_norm: _batch_norm,
    F.dropout: _dropout,
    **{f: _mapped(f) for f in (F.avg_pool2d, F.adaptive_avg_pool2d, torch.flatten)},
}
