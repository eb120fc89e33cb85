"""Spike trains and currents: stand-ins for tensors, on which a network runs in the folded engine.

A `SpikeTrain` is the output of a neuron layer or the
network's input. A `Current` is the lazy sum of the linear branches that feed the next neuron layer.
torch's functions build one from the other through `__torch_function__` (`torch_functions`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.dynamics import accumulator
from models.engines.folded.autograd import rows, unrows
from models.engines.folded.norm import Norm
from models.engines.folded.options import FoldedOptions
from models.engines.ops.linear import Conv2d, Linear
from models.engines.ops.sparse import event_driven, events
from models.engines.ops.sparse.scratch import Scratch
from models.engines.ops.sparse.spike_bits import SpikeBits

LinearMap = Callable[[Tensor], Tensor]

HINT = "or use the unrolled engine (--engine unrolled)"

# torch's functions on spike trains and currents, filled by `torch_functions`.
TORCH_FUNCTIONS: dict[Callable, Callable] = {}


def not_linear(operation: str) -> str:
    """Return the error message for an operation that must not stand between neuron layers."""
    return (
        f"only linear maps may stand between two neuron layers, not {operation}: use convolutions, "
        f"linear layers, BatchNorm, average pooling, flattening, dropout and sums, {HINT}"
    )


def misplaced(name: str) -> str:
    """Return the error message for a function that does not follow a neuron layer."""
    return (
        f"{name} must directly follow a neuron layer, or pooling, flattening or dropout after "
        f"one: put a neuron layer before it, {HINT}"
    )


class Deferred:
    """Base of spike trains and currents: torch's functions on them are looked up in a table."""

    options: FoldedOptions

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func not in TORCH_FUNCTIONS:
            raise TypeError(not_linear(getattr(func, "__name__", str(func))))
        return TORCH_FUNCTIONS[func](*args, **(kwargs or {}))

    def __add__(self, other: SpikeTrain | Current) -> Current:
        if not isinstance(other, Deferred):
            raise TypeError(not_linear(f"a sum with {type(other).__name__}"))
        return Current(self.options, self.as_current().terms() + other.as_current().terms())

    def _refuse(self, *others):
        raise TypeError(not_linear("an operator other than +"))

    __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __neg__ = _refuse
    __pow__ = __matmul__ = __getitem__ = _refuse

    def __getattr__(self, name: str):
        # For attributes that spike trains and currents lack: tensors have most of them.
        raise AttributeError(not_linear(f".{name}"))

    def as_current(self) -> Current:
        """Return the current itself, or the one that a spike train drives without a weight."""
        raise NotImplementedError


@dataclass(eq=False)
class SpikeTrain(Deferred):
    """A spike train `s_t = amplitude * values`, with a handle for its gradient R.

    `values` are `(T*N, C, ...)`, time-major, or `(N, C, ...)` where they are `static`. They are
    zeros and ones where `binary`; after pooling they are numbers of spikes per window, and
    `levels[k]` is `s_t` of a window with k spikes, rounded as in the published order of operations:
    amplitude first, then the average. `handle` is `(N, C, ...)`, None for the network's input.
    `known_total` is `sum_t` of the values, if known.
    """

    options: FoldedOptions
    values: Tensor | SpikeBits | None
    amplitude: Tensor | None = None
    handle: Tensor | None = None
    known_total: Tensor | None = None
    static: bool = False
    binary: bool = False
    levels: Tensor | None = None
    compute: torch.dtype | None = None  # the type of operands; bytes stand for it

    def __post_init__(self) -> None:
        if self.compute is None:
            self.compute = self.values.dtype

    def pack(self) -> None:
        """Store spikes in less memory, for a residual that waits while its branch is computed."""
        if not self.binary or isinstance(self.values, SpikeBits):
            return
        if self.values.dtype == torch.uint8:
            self.values = SpikeBits.pack(self.values) or self.values
        else:
            self.values = self.options.kernels.recode(self.values, torch.uint8)

    def unpacked(self) -> SpikeTrain:
        """Return this spike train with its values in the compute type."""
        train = self._in_bytes()
        if train.values.dtype == self.compute:
            return train
        return replace(train, values=self.options.kernels.recode(train.values, self.compute))

    def as_operand(self) -> SpikeTrain:
        """Return this spike train as linear maps with a weight take it."""
        return self.unpacked() if self.options.crossings is None else self._in_bytes()

    def as_addend(self) -> Tensor:
        """Return the values as sums take them, spikes in bytes or the compute type."""
        return self._in_bytes().values

    def _in_bytes(self) -> SpikeTrain:
        """Return this spike train with bits unpacked to bytes."""
        if isinstance(self.values, SpikeBits):
            return replace(self, values=self.values.unpack())
        return self

    @property
    def total(self) -> Tensor:
        """`sum_t` of the values, `(N, C, ...)`."""
        if self.known_total is None:
            T = self.options.timesteps
            steps = self.values.unflatten(0, (1 if self.static else T, -1))
            total = _sum(steps, accumulator(steps.dtype))
            dtype = self.options.count_dtype(self.compute, T) if self.binary else self.compute
            self.known_total = (total * T if self.static else total).to(dtype)
        return self.known_total

    def scaled(self) -> Tensor:
        """Return `s_t`, in the shape of the values and the parameters' type."""
        if self.levels is not None:
            return unrows(self.levels[rows(self.values).int()], self.values.shape)
        if self.amplitude is None:
            return self.values
        return self._in_bytes().values.to(self.amplitude.dtype) * self.amplitude

    def dim(self) -> int:
        """Return the number of dimensions of the tensor that this stands for."""
        return self.values.dim()

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> SpikeTrain:
        """Flatten dimensions of the tensor that this stands for."""
        train, handle, total = self._in_bytes(), self.handle, self.known_total
        return replace(
            train,
            values=train.values.flatten(start_dim, end_dim),
            handle=None if handle is None else handle.flatten(start_dim, end_dim),
            known_total=None if total is None else total.flatten(start_dim, end_dim),
        )

    def average(self, pool: LinearMap) -> SpikeTrain:
        """Apply a pooling function that averages over windows.

        The amplitude is multiplied first, as in the published code; in a narrower type than the
        parameters' it is not, since that would round it.
        """
        train, amplitude = self.unpacked(), self.amplitude
        values, total = train.values, self.known_total
        total = None if total is None else total.to(self.compute)
        if amplitude is not None and amplitude.dtype == self.compute:
            # The mean of a contiguous tensor, as published, is summed in another order than that of
            # a channels-last one.
            values, amplitude = train.scaled().contiguous(), None
            total = None if total is None else total * self.amplitude
        return replace(
            train,
            values=pool(values),
            amplitude=amplitude,
            handle=None if self.handle is None else pool(self.handle),
            known_total=None if total is None else pool(total),
            binary=False,
            levels=None,
        )

    def count(self, pool: LinearMap, sum_windows: LinearMap, levels: Tensor) -> SpikeTrain:
        """Pool spikes by counting those in each window.

        `pool` averages over windows, `sum_windows` sums over the same windows; `levels` are as in
        the class.
        """
        total, most = self.known_total, len(levels) - 1
        train = self.as_operand() if most < 256 else self.unpacked()
        if total is not None:
            total = sum_windows(total.to(self.compute))
            total = total.to(self.options.count_dtype(self.compute, most * self.options.timesteps))
        return replace(
            train,
            values=sum_windows(train.values),
            amplitude=self.amplitude / most,
            handle=None if self.handle is None else pool(self.handle),
            known_total=total,
            binary=False,
            levels=levels,
        )

    def without_values(self) -> SpikeTrain:
        """Return what the backward pass needs, so that the values can be freed."""
        return replace(self, values=None, known_total=self.total, levels=None)

    def drop(self, p: float) -> SpikeTrain:
        """Apply dropout with a fresh mask at every step.

        The gradient is approximate (docs/method.md, section 5). Raises `TypeError` for a static
        image.
        """
        if self.static:
            raise TypeError(f"dropout must not stand on the input image: put it elsewhere, {HINT}")
        train, amplitude = self.as_operand(), self.amplitude
        values, T = train.values, self.options.timesteps
        keep, kept = self.options.draw_mask(values, p)
        times = _sum(keep.view(torch.uint8).unflatten(0, (T, -1)), torch.int16)
        share = times / (kept * T)
        if amplitude is None:
            amplitude = values.new_ones((), dtype=accumulator(self.compute))
        return replace(
            train,
            values=values * keep,
            amplitude=amplitude / kept,
            handle=None if self.handle is None else self.handle * share.to(self.handle.dtype),
            known_total=None,
            levels=None,
        )

    def as_current(self) -> Current:
        return Current(self.options, [Branch(self)])


@dataclass(frozen=True)
class Branch:
    """One term of a current: a spike train, with or without a weight and a BatchNorm of its own."""

    train: SpikeTrain
    linear: Conv2d | Linear | None = None
    weight: Tensor | None = None
    bias: Tensor | None = None
    norm: Norm | None = None

    def as_operand(self) -> Branch:
        """Return this branch with its spike train as the weight takes it."""
        return replace(self, train=self.train.as_operand())

    def output(self, scratch: Scratch | None = None) -> Tensor:
        """Return the output of the weight, in scratch memory if that is given and event-driven."""
        train, operands = self.train, self._operands()
        if train.values.dtype == torch.uint8:
            return event_driven.output(*operands, train.binary, train.options.crossings, scratch)
        linear, values, weight, bias = operands
        return linear(values, weight, bias)

    def event_driven_output(self) -> events.Current | None:
        """Return the output of the weight, not computed yet; None if that is not event-driven."""
        train, at = self.train, self.train.options.crossings
        if at is None or train.values.dtype != torch.uint8:
            return None
        return event_driven.current(*self._operands(), train.binary, at)

    def _operands(self) -> tuple[Conv2d | Linear, Tensor, Tensor, Tensor | None]:
        """Return map, input, weight and bias; the spike train's amplitude is in the weight."""
        train, compute = self.train, self.train.compute
        # Multiplied before any cast, in the parameter's type.
        weight = self.weight if train.amplitude is None else self.weight * train.amplitude
        bias = None if self.bias is None else self.bias.to(compute)
        return self.linear, train.values, channels_last(weight.to(compute)), bias

    def weight_grad(self, dy: Tensor) -> Tensor:
        """Return `sum_t wgrad(dy_t, p_t)` for a gradient `(T*N, ...)` at the output."""
        train, shape = self.train, self.weight.shape
        if train.values.dtype == torch.uint8:
            at = train.options.crossings
            return event_driven.weight_grad(self.linear, dy, train.values, shape, train.binary, at)
        return self.linear.weight_grad(dy, train.values, shape)

    def wants_covariance(self) -> bool:
        """Return whether the weight's gradient needs `Q`: it may be zero, or approximated away."""
        options = self.train.options
        if self.train.static or options.timesteps == 1 or not self.weight.requires_grad:
            return False
        return not options.approximate or isinstance(self.linear, Linear)


@dataclass
class Current(Deferred):
    """The lazy sum of branches that one neuron layer integrates, with or without a BatchNorm."""

    options: FoldedOptions
    branches: list[Branch]
    norm: Norm | None = None

    def dim(self) -> int:
        """Return the number of dimensions, as of the tensor that this stands for."""
        return self.branches[0].train.dim()

    def as_current(self) -> Current:
        return self

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> SpikeTrain:
        """Raise `TypeError`: only spike trains can be flattened."""
        raise TypeError(misplaced("flatten"))

    def terms(self) -> list[Branch]:
        """Return the branches as terms of a larger sum; a BatchNorm becomes its branch's own."""
        self._check_unused()
        if self.norm is None:
            return self.branches
        if len(self.branches) != 1 or self.branches[0].linear is None:
            raise TypeError(
                "a BatchNorm inside a sum must directly follow a convolution or linear layer: "
                f"put one before it, move it after the sum, {HINT}"
            )
        return [replace(self.branches[0], norm=self.norm)]

    def take_branches(self) -> list[Branch]:
        """Return the branches, those with a weight first, and forget them.

        Spike trains can then be freed while the branches are summed. Raises `RuntimeError` the
        second time.
        """
        self._check_unused()
        branches = sorted(self.branches, key=lambda branch: branch.linear is None)
        self.branches.clear()
        return branches

    def _check_unused(self) -> None:
        if not self.branches:
            raise RuntimeError(
                "the same current drives two neuron layers: use the output of one layer twice, "
                f"{HINT}"
            )


def channels_last(a: Tensor) -> Tensor:
    """Return `a` in channels-last memory format if it has four dimensions."""
    return a.contiguous(memory_format=torch.channels_last) if a.dim() == 4 else a


def _sum(steps: Tensor, dtype: torch.dtype) -> Tensor:
    """Return `sum_t` of `(T, ...)`; on a CPU several times as fast as `sum(0)` of a narrow type."""
    if steps.device.type != "cpu":
        if steps.dim() == 5:  # torch's sums are contiguous, whatever the order in memory
            return steps.permute(0, 1, 3, 4, 2).sum(0, dtype=dtype).permute(0, 3, 1, 2)
        return steps.sum(0, dtype=dtype)
    total = steps[0].to(dtype)
    for values in steps[1:]:
        total = total + values
    return total
