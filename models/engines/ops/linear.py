"""The linear maps that carry a weight, each with its two gradients as plain functions.

Nothing here knows of time: a map takes a batch of any size, which the folded engine fills with
`T*N` rows in the forward pass and `N` in the backward pass.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import grad as conv_grad

# Of the patches that are made at a time: 32 MiB in bf16.
PATCH_ELEMENTS = 1 << 24


@dataclass(frozen=True)
class Linear:
    """`y = p W^T + b` for rows `p` of shape `(B, in)`."""

    def __call__(self, p: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(p, weight, bias)

    def weight_grad(self, dy: Tensor, p: Tensor, shape: torch.Size) -> Tensor:
        """Gradient at the weight, summed over the batch."""
        return dy.t() @ p

    def input_grad(self, dy: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """Gradient at the input, `L^T(dy)`."""
        return dy @ weight


@dataclass(frozen=True)
class Conv2d:
    """Convolution of `p` `(B, in, H, W)`, its options those of `torch.nn.functional.conv2d`."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    def __call__(self, p: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self._tiled(p) and self._values(p, weight.shape) <= 16:
            return self.by_patches(p, weight, bias)
        return F.conv2d(p, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def by_patches(self, p: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution as one matrix product over its patches (its slow or fast twin)."""
        W = weight.permute(0, 2, 3, 1).reshape(len(weight), -1)  # (out, K)
        y = p.new_empty(len(p), *self._map(p, weight.shape), len(weight))
        for part, patches in self._patches(p, weight.shape):
            torch.mm(patches, W.t(), out=y[part].view(len(patches), -1))
        y = y.permute(0, 3, 1, 2)
        return y if bias is None else y.add_(bias.view(-1, 1, 1))

    def weight_grad(self, dy: Tensor, p: Tensor, shape: torch.Size) -> Tensor:
        """Gradient at the weight, summed over the batch."""
        if self._tiled(p) and self._values(p, shape) <= 64:
            return self.weight_grad_by_patches(dy, p, shape)
        return conv_grad.conv2d_weight(
            p, shape, dy, self.stride, self.padding, self.dilation, self.groups
        )

    def weight_grad_by_patches(self, dy: Tensor, p: Tensor, shape: torch.Size) -> Tensor:
        """`weight_grad` as one matrix product over the patches (its slow or fast twin)."""
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
        """Gradient at the input, `L^T(dy)`."""
        return conv_grad.conv2d_input(
            shape, weight, dy, self.stride, self.padding, self.dilation, self.groups
        )

    def _patches(self, p: Tensor, shape: torch.Size) -> Iterator[tuple[slice, Tensor]]:
        """The windows `(B'*H'*W', K)` of `p` under a weight of this shape, a part of B at a time.

        K is kernel height, width, channel: in channels-last memory a window's row is one run.
        """
        (h, w), (H, W) = shape[2:], self._map(p, shape)
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

    def _map(self, p: Tensor, shape: torch.Size) -> tuple[int, int]:
        """Height and width of the output for the input `p` and a weight of this shape."""
        sides = zip(p.shape[2:], shape[2:], self.stride, self.padding, self.dilation, strict=True)
        H, W = ((side + 2 * pad - gap * (k - 1) - 1) // s + 1 for side, k, s, pad, gap in sides)
        return H, W

    def _values(self, p: Tensor, shape: torch.Size) -> int:
        H, W = self._map(p, shape)
        return H * W

    def _tiled(self, p: Tensor) -> bool:
        # AMX tiles: over small maps oneDNN's convolutions run at a fraction of the matrix rate
        # (512 channels at 4x4, 160 images: forward 13.5 ms against 6.3 by patches, weight gradient
        # 45 against 8; at 8x8 only the weight gradient gains, 13.6 against 10; at 16x16 neither).
        # Processors without tiles, and GPUs, were measured the other way round.
        bf16 = p.dtype == torch.bfloat16 and p.device.type == "cpu"
        return bf16 and self.groups == 1 and has_tiles()


@functools.cache
def has_tiles() -> bool:
    """Whether this processor has AMX bf16 tiles."""
    return getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
