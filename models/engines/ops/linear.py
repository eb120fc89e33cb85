"""The linear maps with a weight, each with its two gradients as plain functions.

A map takes a batch of any size B: `T*N` in the folded engine's forward pass, `N` in its backward
pass.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import grad as conv_grad

from models.engines.ops.sparse.events import Options

# Limit on the patches that are in memory at a time: 32 MiB in bf16.
PATCH_ELEMENTS = 1 << 24


@dataclass(frozen=True)
class Linear:
    """`y = p W^T + b` for `p` of shape `(B, in)`."""

    groups = 1
    options = Options((1, 1), (0, 0))  # as a convolution of images of one pixel

    def __call__(self, p: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(p, weight, bias)

    def weight_grad(self, dy: Tensor, p: Tensor, shape: torch.Size) -> Tensor:
        """Return the gradient of the weight, summed over the batch."""
        return dy.t() @ p

    def input_grad(self, dy: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """Return the gradient at the input, the adjoint map of `dy`."""
        return dy @ weight


@dataclass(frozen=True)
class Conv2d:
    """Convolution of `p` `(B, in, H, W)` with the options of `torch.nn.functional.conv2d`."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def options(self) -> Options:
        """The options without `groups`."""
        return Options(self.stride, self.padding, self.dilation)

    def __call__(self, p: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self._tiled(p) and self._output_pixels(p, weight.shape) <= 16:
            return self.by_patches(p, weight, bias)
        return F.conv2d(p, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def by_patches(self, p: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the convolution, computed as a matrix product over its patches."""
        W = weight.permute(0, 2, 3, 1).reshape(len(weight), -1)  # (out, K)
        y = p.new_empty(len(p), *self._output_size(p, weight.shape), len(weight))
        for part, patches in self._patches(p, weight.shape):
            torch.mm(patches, W.t(), out=y[part].view(len(patches), -1))
        y = y.permute(0, 3, 1, 2)
        return y if bias is None else y.add_(bias.view(-1, 1, 1))

    def weight_grad(self, dy: Tensor, p: Tensor, shape: torch.Size) -> Tensor:
        """Return the gradient of the weight, summed over the batch."""
        if self._tiled(p) and self._output_pixels(p, shape) <= 64:
            return self.weight_grad_by_patches(dy, p, shape)
        return conv_grad.conv2d_weight(
            p, shape, dy, self.stride, self.padding, self.dilation, self.groups
        )

    def weight_grad_by_patches(self, dy: Tensor, p: Tensor, shape: torch.Size) -> Tensor:
        """Return `weight_grad`, computed as a matrix product over the patches."""
        rows = dy.permute(0, 2, 3, 1)  # (B, H', W', out)
        parts = [
            rows[part].reshape(len(patches), -1).t() @ patches
            for part, patches in self._patches(p, shape)
        ]
        exact = torch.promote_types(dy.dtype, torch.float32)
        total = parts[0] if len(parts) == 1 else sum(part.to(exact) for part in parts)
        out, channels, *size = shape
        return total.view(out, *size, channels).permute(0, 3, 1, 2)

    def input_grad(self, dy: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """Return the gradient at the input, the adjoint map of `dy`."""
        return conv_grad.conv2d_input(
            shape, weight, dy, self.stride, self.padding, self.dilation, self.groups
        )

    def _patches(self, p: Tensor, shape: torch.Size) -> Iterator[tuple[slice, Tensor]]:
        """Yield slices of the batch, each with its patches `(B'*H'*W', K)`.

        K runs over kernel height, kernel width and channel: in channels-last memory, one row of a
        window is contiguous.
        """
        (h, w), (H, W) = shape[2:], self._output_size(p, shape)
        pad_h, pad_w = self.padding
        padded = F.pad(p, (pad_w, pad_w, pad_h, pad_h)).permute(0, 2, 3, 1).contiguous()
        image, row, pixel, _ = padded.stride()
        strides = (image, self.stride[0] * row, self.stride[1] * pixel)
        strides += (self.dilation[0] * row, self.dilation[1] * pixel, 1)
        windows = padded.as_strided((len(p), H, W, h, w, p.shape[1]), strides)
        step = max(1, PATCH_ELEMENTS // (H * W * h * w * p.shape[1]))
        for first in range(0, len(p), step):
            part = slice(first, min(first + step, len(p)))
            yield part, windows[part].reshape(-1, h * w * p.shape[1])

    def _output_size(self, p: Tensor, shape: torch.Size) -> tuple[int, int]:
        """Return height and width of the output for a weight of this shape."""
        sides = zip(p.shape[2:], shape[2:], self.stride, self.padding, self.dilation, strict=True)
        H, W = ((side + 2 * pad - gap * (k - 1) - 1) // s + 1 for side, k, s, pad, gap in sides)
        return H, W

    def _output_pixels(self, p: Tensor, shape: torch.Size) -> int:
        H, W = self._output_size(p, shape)
        return H * W

    def _tiled(self, p: Tensor) -> bool:
        # With AMX tiles, oneDNN's convolutions over small maps run at a fraction of the speed of
        # matrix products (512 channels at 4x4, 160 images: forward 13.5 ms, by patches 6.3 ms;
        # weight gradient 45 and 8 ms; at 8x8 only the weight gradient gains, 13.6 and 10 ms; at
        # 16x16 neither). On processors without tiles, and on GPUs, patches were slower.
        bf16 = p.dtype == torch.bfloat16 and p.device.type == "cpu"
        return bf16 and self.groups == 1 and has_tiles()


@functools.cache
def has_tiles() -> bool:
    """Return whether this processor has AMX bf16 tiles."""
    return getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
