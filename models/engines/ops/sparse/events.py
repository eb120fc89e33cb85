"""Convolutions of spike trains in C++ (`events.cpp`): they add weights at spikes and skip zeros.

A spike train is uint8, `(B, C, H, W)` channels last: zeros and ones (`binary`), or small integers
such as pooled counts and totals over time. Results equal those of `conv2d_dense` and
`conv2d_weight_dense` up to the rounding of sums, whose order depends on the shapes alone. bf16
weights and gradients are summed in float32.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import grad as conv_grad

from models.dynamics import Dynamics, accumulator
from models.engines.ops import native_build
from models.engines.ops.native_build import CompilerError
from models.engines.ops.reference import Affine, Statistics
from models.engines.ops.sparse.scratch import Scratch

SOURCE = Path(__file__).parents[1] / "csrc" / "events.cpp"

_POINTER, _SIZE, _DOUBLE = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
_BOOL, _INT = ctypes.c_bool, ctypes.c_int
_OPERANDS = [_POINTER] * 4 + [_BOOL] + [_POINTER] * 3 + [_BOOL, _DOUBLE]
_SIGNATURES = {
    "sum": [*_OPERANDS, _POINTER, _INT],
    "sum_with_statistics": [*_OPERANDS, *[_POINTER] * 4, _INT],
    "sum_and_fire": [*_OPERANDS, *[_POINTER] * 2, *[_DOUBLE] * 4, _BOOL, _POINTER, _INT],
    "weight_grad": [_POINTER] * 5 + [_BOOL, _INT],
    "event_rate": [_POINTER, _SIZE, _POINTER, _INT],
    "pack_bits": [_POINTER, _SIZE, _POINTER, _INT],
    "unpack_bits": [_POINTER, _SIZE, _POINTER, _INT],
}
_ON_BYTES = ("event_rate", "pack_bits", "unpack_bits")  # the others exist once per type of currents
FUNCTIONS = _ON_BYTES + tuple(
    f"{name}_{dtype}"
    for name in _SIGNATURES.keys() - _ON_BYTES
    for dtype in ("float32", "float64", "bfloat16")
)
# Events are numbers of 16 bits (see events.cpp): columns times channels of a block of weights,
# channels times strides, pixels of a tile.
_BLOCK_CHANNELS, _LARGEST_INDEX, _LARGEST_WIDTH, _LARGEST_REACH = 128, 1 << 16, 2048, 15


class Options(NamedTuple):
    """Options of a convolution, (height, width) each, as `torch.nn.functional.conv2d` has them."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)

    def output_size(self, p: Tensor, kernel: tuple[int, int]) -> list[int]:
        """Return height and width of the output."""
        sides = zip(p.shape[2:], kernel, *self, strict=True)
        return [(side + 2 * pad - gap * (k - 1) - 1) // s + 1 for side, k, s, pad, gap in sides]


class Current(NamedTuple):
    """A current `(T*N, out, H, W)`: a convolution of spikes, and terms that are added to it.

    `p` are the spikes `(T*N, in, H', W')`, zeros and ones where `binary`; `weight` is
    `(out, in, h, w)`. `y` is another current, whose memory is taken for the sum; `residual` are
    spikes of one `amplitude`, in bytes or `pack_bits` of these.
    """

    p: Tensor
    weight: Tensor
    bias: Tensor | None
    options: Options
    binary: bool
    steps: int = 1
    y: Tensor | None = None
    residual: Tensor | None = None
    amplitude: float = 0.0

    def output_size(self) -> list[int]:
        """Return height and width of the current."""
        return self.options.output_size(self.p, self.weight.shape[2:])

    def memory(self, scratch: Scratch | None = None) -> Tensor:
        """Return memory for the current, that of `y` if there is one."""
        if self.y is not None:
            return self.y
        shape = (len(self.p), *self.output_size(), len(self.weight))
        if scratch is None:
            return self.weight.new_empty(shape).permute(0, 3, 1, 2)
        return scratch.take(shape, self.weight.dtype).permute(0, 3, 1, 2)


@functools.cache
def library() -> ctypes.CDLL:
    """Load the compiled convolutions. Raises `CompilerError` without a working C++ compiler."""
    return native_build.load(SOURCE, FUNCTIONS)


@functools.cache
def verify() -> None:
    """Compare a small convolution and its gradient with the dense ones.

    Raises `CompilerError` where the results differ or `library` fails.
    """
    cpu = {"dtype": torch.float32, "device": "cpu"}
    p = torch.arange(2 * 9 * 5 * 6, device="cpu").view(2, 9, 5, 6) % 7 % 3
    p = p.to(torch.uint8).contiguous(memory_format=torch.channels_last)
    weight = torch.linspace(-1, 4, 7 * 9 * 3 * 3, **cpu).sin().view(7, 9, 3, 3)
    options = Options((2, 1), (1, 1))
    y = conv2d_dense(p, weight, None, options)
    pairs = (
        (conv2d(p, weight, None, options, binary=False), y),
        (
            conv2d_weight(p, weight.shape, y, options, binary=False),
            conv2d_weight_dense(p, weight.shape, y, options),
        ),
    )
    if not all(torch.allclose(*pair, rtol=1e-4, atol=1e-4) for pair in pairs):
        raise CompilerError("its code computes other convolutions than torch; set CXX to another")


def offered(p: Tensor, kernel: tuple[int, int], options: Options, dtype: torch.dtype) -> bool:
    """Return whether this input and kernel can be convolved here, with weights of this type."""
    channels, (height, width) = p.shape[1], p.shape[2:]
    (down, right), _, dilation = options
    return (
        p.dtype == torch.uint8
        and p.device.type == "cpu"
        and dtype in (torch.float32, torch.float64, torch.bfloat16)
        and channels_last(p)
        and min(height, width, channels) > 0
        and min(options.output_size(p, kernel)) > 0
        and width * min(channels, _BLOCK_CHANNELS) <= _LARGEST_INDEX
        and channels * down * right <= _LARGEST_INDEX
        and width + 2 * options.padding[1] <= _LARGEST_WIDTH
        and all((k - 1) * gap <= _LARGEST_REACH for k, gap in zip(kernel, dilation, strict=True))
    )


def conv2d(
    p: Tensor, weight: Tensor, bias: Tensor | None, options: Options, binary: bool
) -> Tensor:
    """Return the convolution of `p` with `weight` `(out, in, h, w)`, channels last."""
    return compute(Current(p, weight, bias, options, binary))


def compute(current: Current, scratch: Scratch | None = None) -> Tensor:
    """Return the current, channels last."""
    y = current.memory(scratch)
    _call_with("sum", current, y)
    return y


def compute_with_statistics(
    current: Current, centre: bool, scratch: Scratch | None = None
) -> tuple[Tensor, Statistics]:
    """Return the current, channels last, and its statistics; centred as `reference.statistics_`."""
    y, exact = current.memory(scratch), accumulator(current.weight.dtype)
    N, C, H, W = len(y) // current.steps, *y.shape[1:]
    time_mean = y.new_empty(N * H * W, C, dtype=exact) if centre else None
    mean, var = y.new_empty(C, dtype=exact), y.new_empty(C, dtype=exact)
    _call_with("sum_with_statistics", current, y, time_mean, mean, var)
    return y, Statistics(mean, var, time_mean)


def fire(current: Current, affine: Affine | None, Vth: Tensor, d: Dynamics) -> Tensor:
    """Return the spikes that a current causes, bytes `(T*N, out, H, W)`; see `reference.spikes`."""
    shape = (len(current.p), *current.output_size(), len(current.weight))
    spikes = current.p.new_empty(shape).permute(0, 3, 1, 2)
    exact, perfect = accumulator(current.weight.dtype), d.decay == d.gain == 1.0
    channels = (None, None) if affine is None else (affine.slope, affine.offset)
    channels = [None if a is None else a.to(exact).contiguous() for a in channels]
    neuron = (d.decay, d.gain, (d.alpha * Vth).item(), Vth.item(), perfect)
    _call_with("sum_and_fire", current, *channels, *neuron, spikes)
    return spikes


def conv2d_weight(
    p: Tensor, shape: torch.Size, dy: Tensor, options: Options, binary: bool
) -> Tensor:
    """Return the gradient of a weight of this shape for the gradient `dy` at the output.

    It is of the accumulation type.
    """
    dy = dy.contiguous(memory_format=torch.channels_last)
    dw = dy.new_empty(shape, dtype=accumulator(dy.dtype))
    dw = dw.contiguous(memory_format=torch.channels_last)
    strides = _numbers(dw.stride())
    _call("weight_grad", dy.dtype, _shape(p, shape, options, 1), p, dy, dw, strides, binary)
    return dw


def event_rate(p: Tensor) -> float:
    """Return the share of nonzero bytes; of a long spike train, that of a sample."""
    rate = ctypes.c_double()
    _call_plain("event_rate", p, p.numel(), ctypes.addressof(rate))
    return rate.value


def pack_bits(values: Tensor) -> Tensor:
    """Return bytes of zeros and ones as bits, in their order in memory; a multiple of 8."""
    bits = values.new_empty(values.numel() // 8)
    _call_plain("pack_bits", values, values.numel(), bits)
    return bits


def unpack_bits(bits: Tensor, shape: torch.Size) -> Tensor:
    """Return the values that `pack_bits` has packed, channels last."""
    B, C, *sides = shape
    values = bits.new_empty(B, *sides, C).movedim(-1, 1)
    _call_plain("unpack_bits", bits, values.numel(), values)
    return values


def channels_last(a: Tensor) -> bool:
    """Return whether `a` `(B, C, ...)` lies channels last in memory, without gaps."""
    return a.movedim(1, -1).is_contiguous()


def conv2d_dense(p: Tensor, weight: Tensor, bias: Tensor | None, options: Options) -> Tensor:
    """Return what `conv2d` does, by torch's convolution: its reference implementation."""
    return F.conv2d(p.to(weight.dtype), weight, bias, *options)


def conv2d_weight_dense(p: Tensor, shape: torch.Size, dy: Tensor, options: Options) -> Tensor:
    """Return what `conv2d_weight` does, by torch's gradient: its reference implementation."""
    return conv_grad.conv2d_weight(p.to(dy.dtype), shape, dy, *options)


def _call(name: str, dtype: torch.dtype, *arguments) -> None:
    """Call a function for currents of this type."""
    suffix = str(dtype).removeprefix("torch.")
    native_build.call(library(), f"{name}_{suffix}", _SIGNATURES[name], *arguments)


def _call_plain(name: str, *arguments) -> None:
    """Call a function for bytes alone."""
    native_build.call(library(), name, _SIGNATURES[name], *arguments)


def _call_with(name: str, current: Current, *arguments) -> None:
    """Call a function for a current."""
    c, exact = current, accumulator(current.weight.dtype)
    w, b = c.weight.to(exact), None if c.bias is None else c.bias.to(exact).contiguous()
    operands = (_shape(c.p, w.shape, c.options, c.steps), c.p, w, _numbers(w.stride()), c.binary, b)
    bits = c.residual is not None and c.residual.dim() == 1
    _call(name, c.weight.dtype, *operands, c.y, c.residual, bits, c.amplitude, *arguments)


def _shape(p: Tensor, weight: torch.Size, options: Options, steps: int) -> ctypes.Array:
    """Return the numbers of `Shape` in events_common.h."""
    size = options.output_size(p, weight[2:])
    sides = (p.shape[2:], size, weight[2:], *options)
    counts = (steps, len(p) // steps, p.shape[1], weight[0])
    return _numbers((*counts, *(n for side in sides for n in side)))


def _numbers(values) -> ctypes.Array:
    return (ctypes.c_int64 * len(values))(*values)
