"""What stands for tensors in the folded engine: spike trains, and the currents that they drive.

A network written for tensors runs on these. A `SpikeTrain` is the output of a neuron layer or the
network's input. A `Current` is the lazy sum of the linear branches that feed the next neuron layer.
torch's functions build one from the other through `__torch_function__` (`torch_functions`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.dynamics import accumulator
from models.engines.folded.options import FoldedOptions
from models.engines.ops import sync_batch_norm
from models.engines.ops.linear import Conv2d, Linear
from models.engines.ops.reference import Affine, Statistics
from models.engines.ops.sync_batch_norm import Reduction

# torch's functions on spike trains and currents, filled by `torch_functions`.
TORCH_FUNCTIONS: dict[Callable, Callable] = {}


class Deferred:
    """Base of spike trains and currents: torch's functions on them are looked up in a table."""

    options: FoldedOptions

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func not in TORCH_FUNCTIONS:
            raise TypeError(
                f"the folded engine needs linear maps between neurons, not {func.__name__}; "
                "use the unrolled engine for this network"
            )
        return TORCH_FUNCTIONS[func](*args, **(kwargs or {}))

    def __add__(self, other: SpikeTrain | Current) -> Current:
        return Current(self.options, self.as_current().terms() + other.as_current().terms())

    def as_current(self) -> Current:
        """Return the current that this drives or is."""
        raise NotImplementedError


class SpikeTrain(Deferred):
    """A spike train `amplitude * values`, with a handle for its gradient R.

    `values` are `(T*N, C, ...)`, time-major, or `(N, C, ...)` where they are `static`; `binary`
    tells that they are zeros and ones. `handle` is `(N, C, ...)`, None for the network's input;
    `total` is `sum_t` of the values where it is known already.
    """

    def __init__(
        self,
        options: FoldedOptions,
        values: Tensor | None,
        amplitude: Tensor | None = None,
        handle: Tensor | None = None,
        total: Tensor | None = None,
        static: bool = False,
        binary: bool = False,
    ) -> None:
        self.options, self.values, self.amplitude, self.handle = options, values, amplitude, handle
        self.static, self.binary = static, binary
        self._total = total
        self.compute = None if values is None else values.dtype

    def pack(self) -> None:
        """Store spikes as bytes, for a residual that waits while its branch is computed."""
        if self.binary:
            self.values = self.options.kernels.recode(self.values, torch.uint8)

    def unpacked(self) -> SpikeTrain:
        """Return this spike train with its values in the compute type."""
        if self.values.dtype == self.compute:
            return self
        values, total = self.options.kernels.recode(self.values, self.compute), self._total
        return SpikeTrain(
            self.options, values, self.amplitude, self.handle, total, self.static, self.binary
        )

    @property
    def total(self) -> Tensor:
        """`sum_t` of the values, `(N, C, ...)`."""
        if self._total is None:
            T = self.options.timesteps
            steps = self.values.unflatten(0, (1 if self.static else T, -1))
            total = _sum(steps, accumulator(steps.dtype))
            self._total = (total * T if self.static else total).to(steps.dtype)
        return self._total

    def dim(self) -> int:
        """Return the number of dimensions, as of the tensor that this stands for."""
        return self.values.dim()

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> SpikeTrain:
        """Flatten dimensions, as of the tensor that this stands for."""
        return self.map(lambda a: a.flatten(start_dim, end_dim))

    def map(self, linear: Callable[[Tensor], Tensor]) -> SpikeTrain:
        """Apply a linear map that has no weight and is the same at every step."""
        return SpikeTrain(
            self.options,
            linear(self.unpacked().values),
            self.amplitude,
            None if self.handle is None else linear(self.handle),
            None if self._total is None else linear(self._total.to(self.compute)),
            self.static,
        )

    def without_values(self) -> SpikeTrain:
        """Return what the backward pass needs, so that the values can be freed."""
        return SpikeTrain(
            self.options, None, self.amplitude, self.handle, self.total, static=self.static
        )

    def drop(self, p: float) -> SpikeTrain:
        """Apply dropout with a fresh mask at every step.

        The gradient is approximate (docs/method.md, section 5).
        """
        if self.static:
            raise TypeError("dropout on a static image: use the unrolled engine for this network")
        if self.amplitude is None:
            raise TypeError("dropout on event frames: use the unrolled engine for this network")
        values, T = self.unpacked().values, self.options.timesteps
        keep, kept = self.options.draw_mask(values, p)
        times = _sum(keep.view(torch.uint8).unflatten(0, (T, -1)), torch.int16)
        share = times / (kept * T)
        handle = None if self.handle is None else self.handle * share.to(self.handle.dtype)
        return SpikeTrain(
            self.options, values * keep, self.amplitude / kept, handle, binary=self.binary
        )

    def as_current(self) -> Current:
        return Current(self.options, [Branch(self)])


@dataclass
class Norm:
    """The arguments of `torch.nn.functional.batch_norm`."""

    running_mean: Tensor | None
    running_var: Tensor | None
    gamma: Tensor
    beta: Tensor
    training: bool
    momentum: float
    eps: float

    def affine(self, batch: Statistics | None, samples: int, reduce: Reduction) -> Affine:
        """Return the affine map of the normalisation and update the running statistics.

        `batch` has the statistics of this rank's current, None in evaluation; `samples` is the
        number of values per channel that they stand for (T*N*H*W, also for a static current).
        Raises `ValueError` for a single value.
        """
        if batch is None:
            mean, var = self.running_mean, self.running_var
        else:
            mean, var = batch.mean, batch.var
            if reduce is not sync_batch_norm.local:
                mean, var, samples = sync_batch_norm.all_reduce_statistics(mean, var, samples)
            elif samples == 1:
                raise ValueError("a BatchNorm in training needs more than 1 value per channel")
            if self.running_mean is not None:
                running = self.running_mean, self.running_var
                sync_batch_norm.update_running_statistics(
                    *running, mean, var, samples, self.momentum
                )
        # Detached: torch.compile would make a kernel for every layer width of bare parameters.
        return Affine(mean, torch.rsqrt(var + self.eps), self.gamma.detach(), self.beta.detach())


@dataclass(frozen=True)
class Branch:
    """One term of a current: a spike train, with or without a weight and a BatchNorm of its own."""

    train: SpikeTrain
    linear: Conv2d | Linear | None = None
    weight: Tensor | None = None
    bias: Tensor | None = None
    norm: Norm | None = None

    def unpacked(self) -> Branch:
        """Return this branch with the values of its spike train in the compute type."""
        return replace(self, train=self.train.unpacked())

    def output(self) -> Tensor:
        """Return the output of the weight, whose operand includes the spike train's amplitude."""
        train, compute = self.train, self.train.compute
        # Multiplied before any cast, in the parameter's type.
        weight = self.weight if train.amplitude is None else self.weight * train.amplitude
        bias = None if self.bias is None else self.bias.to(compute)
        return self.linear(train.values, channels_last(weight.to(compute)), bias)

    def weight_grad(self, dy: Tensor) -> Tensor:
        """Return `sum_t wgrad(dy_t, p_t)` for a gradient `(T*N, ...)` at the output."""
        return self.linear.weight_grad(dy, self.train.values, self.weight.shape)

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

    def terms(self) -> list[Branch]:
        """Return the branches as terms of a larger sum; a BatchNorm becomes its branch's own."""
        if self.norm is None:
            return self.branches
        if len(self.branches) != 1 or self.branches[0].linear is None:
            raise TypeError("a BatchNorm inside a sum must stand behind one weight")
        return [replace(self.branches[0], norm=self.norm)]

    def take_branches(self) -> list[Branch]:
        """Return the branches, those with a weight first, and forget them.

        Spike trains can then be freed while the branches are summed. Raises `RuntimeError` the
        second time.
        """
        if not self.branches:
            raise RuntimeError("a current drives one neuron layer; this one has fired already")
        branches = sorted(self.branches, key=lambda branch: branch.linear is None)
        self.branches.clear()
        return branches


def channels_last(a: Tensor) -> Tensor:
    """Return `a` in channels-last memory format if it has four dimensions."""
    return a.contiguous(memory_format=torch.channels_last) if a.dim() == 4 else a


def _sum(steps: Tensor, dtype: torch.dtype) -> Tensor:
    """Return `sum_t` of `(T, ...)`; on a CPU several times as fast as `sum(0)` of a narrow type."""
    if steps.device.type != "cpu":
        return steps.sum(0, dtype=dtype)
    total = steps[0].to(dtype)
    for values in steps[1:]:
        total = total + values
    return total
