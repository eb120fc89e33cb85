"""Linear maps of spikes that are stored as bytes: event-driven where that is faster, else dense."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.engines.ops.linear import Conv2d, Linear, has_tiles
from models.engines.ops.sparse import events
from models.engines.ops.sparse.events import Current
from models.engines.ops.sparse.scratch import Scratch


@dataclass(frozen=True)
class Crossings:
    """Shares of nonzero bytes up to which the event-driven computation is faster.

    `processor` describes the kind of processor for which that was measured.
    """

    forward: float
    weight_grad: float
    processor: str

    def line(self) -> str:
        """Describe the choice in a few words."""
        return f"event-driven up to firing rates of {self.forward:.0%} ({self.processor})"


# Measured with benchmarks/events.py on 2 cores of an AMD EPYC (Zen 5), the lower ends of what the
# layers of resnet18 and vgg11 gave; AVX2 with the flags that the benchmark names. At a rate of 10 %
# the forward pass takes 0.2 (AVX2), 0.3 (AVX-512), 0.5 (bf16) of the dense time.
_FP32 = {"AVX2": Crossings(0.6, 0.8, "AVX2"), "AVX512": Crossings(0.45, 0.55, "AVX-512")}
_BF16 = Crossings(0.15, 0.2, "AVX-512 bf16")
# Not measured on other processors, such as ARM's.
_OTHER = Crossings(0.2, 0.2, "unmeasured processor")

# Fewer pixels do not repay that the weights are copied into another order.
_FEWEST_PIXELS = 128


def crossings_here(dtype: torch.dtype) -> Crossings | None:
    """Return the crossings of this processor for dense operands of this type.

    None where dense is always faster: AMX tiles compute in bf16 faster than events are added.
    """
    if dtype == torch.bfloat16:
        return None if has_tiles() else _BF16
    return _FP32.get(torch.backends.cpu.get_cpu_capability(), _OTHER)


ALWAYS = Crossings(1.0, 1.0, "always")


def current(
    linear: Conv2d | Linear,
    p: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    binary: bool,
    at: Crossings,
) -> Current | None:
    """Return `linear(p, weight, bias)` for bytes `p`, to be computed by events; None if dense."""
    if not _pays(linear, p, weight.shape, weight.dtype, at.forward):
        return None
    return Current(_images(p), _images(weight), bias, linear.options, binary)


def output(
    linear: Conv2d | Linear,
    p: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    binary: bool,
    at: Crossings,
    scratch: Scratch | None = None,
) -> Tensor:
    """Return `linear(p, weight, bias)` for bytes `p`, in the type of the weight.

    With `scratch`, an event-driven result is in that memory.
    """
    sparse = current(linear, p, weight, bias, binary, at)
    if sparse is None:
        return linear(p.to(weight.dtype), weight, bias)
    y = events.compute(sparse, scratch)
    return y.view(len(p), -1) if p.dim() == 2 else y


def weight_grad(
    linear: Conv2d | Linear, dy: Tensor, p: Tensor, shape: torch.Size, binary: bool, at: Crossings
) -> Tensor:
    """Return `linear.weight_grad(dy, p, shape)` for bytes `p`."""
    if _pays(linear, p, shape, dy.dtype, at.weight_grad):
        images = torch.Size((*shape, 1, 1)[:4])
        dw = events.conv2d_weight(_images(p), images, _images(dy), linear.options, binary)
        return dw.view(shape)
    return linear.weight_grad(dy, p.to(dy.dtype), shape)


def _pays(
    linear: Conv2d | Linear, p: Tensor, shape: torch.Size, dtype: torch.dtype, crossing: float
) -> bool:
    """Return whether the event-driven computation is offered, and faster."""
    images, kernel = _images(p), (*shape, 1, 1)[2:4]
    if linear.groups != 1 or not events.offered(images, kernel, linear.options, dtype):
        return False
    if crossing >= 1:
        return True
    height, width = linear.options.output_size(images, kernel)
    return len(p) * height * width >= _FEWEST_PIXELS and events.event_rate(p) <= crossing


def _images(a: Tensor) -> Tensor:
    """Return a batch of vectors as images of one pixel."""
    return a.view(*a.shape, 1, 1) if a.dim() == 2 else a
