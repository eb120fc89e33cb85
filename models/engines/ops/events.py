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

from models.dynamics import accumulator
from models.engines.ops import native_build
from models.engines.ops.native_build import CompilerError

SOURCE = Path(__file__).with_name("csrc") / "events.cpp"

_POINTER, _BOOL, _INT = ctypes.c_void_p, ctypes.c_bool, ctypes.c_int
_SIGNATURES = {
    "convolve": [_POINTER] * 6 + [_BOOL, _INT],
    "weight_grad": [_POINTER] * 5 + [_BOOL, _INT],
    "event_rate": [_POINTER, ctypes.c_int64, _POINTER, _INT],
}
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


@functools.cache
def library() -> ctypes.CDLL:
    """Load the compiled convolutions. Raises `CompilerError` without a working C++ compiler."""
    return native_build.load(SOURCE)


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
        and p.is_contiguous(memory_format=torch.channels_last)
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
    size, exact = options.output_size(p, weight.shape[2:]), accumulator(weight.dtype)
    y = weight.new_empty(len(p), *size, len(weight)).permute(0, 3, 1, 2)
    w, b = weight.to(exact), None if bias is None else bias.to(exact).contiguous()
    shape = _shape(p, weight.shape, options)
    _call("convolve", y.dtype, shape, p, w, _numbers(w.stride()), b, y, binary)
    return y


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
    _call("weight_grad", dy.dtype, _shape(p, shape, options), p, dy, dw, strides, binary)
    return dw


def event_rate(p: Tensor) -> float:
    """Return the share of nonzero bytes, of a long spike train in a sample of it."""
    rate = ctypes.c_double()
    native_build.call(
        library(), "event_rate", _SIGNATURES["event_rate"], p, p.numel(), ctypes.addressof(rate)
    )
    return rate.value


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


def _shape(p: Tensor, weight: torch.Size, options: Options) -> ctypes.Array:
    """Return the numbers of `Shape` in events_common.h."""
    size = options.output_size(p, weight[2:])
    sides = (p.shape[2:], size, weight[2:], *options)
    return _numbers((len(p), p.shape[1], weight[0], *(n for side in sides for n in side)))


def _numbers(values) -> ctypes.Array:
    return (ctypes.c_int64 * len(values))(*values)
