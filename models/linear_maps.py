"""The linear maps that carry a weight, each with its two gradients as plain functions.

Nothing here knows of time: a map takes a batch of any size, which the folded engine fills with
`T*N` rows in the forward pass and `N` in the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import grad as conv_grad


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
        return F.conv2d(p, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def weight_grad(self, dy: Tensor, p: Tensor, shape: torch.Size) -> Tensor:
        """Gradient at the weight, summed over the batch."""
        if self._small_and_tiled(dy):
            return self.weight_grad_by_patches(dy, p, shape)
        return conv_grad.conv2d_weight(
            p, shape, dy, self.stride, self.padding, self.dilation, self.groups
        )

    def weight_grad_by_patches(self, dy: Tensor, p: Tensor, shape: torch.Size) -> Tensor:
        """`weight_grad` as one matrix product over unfolded patches (its slow or fast twin)."""
        patches = F.unfold(p, shape[2:], self.dilation, self.padding, self.stride)  # (B, K, L)
        rows = dy.permute(0, 2, 3, 1).reshape(-1, shape[0])  # (B*L, out)
        return (rows.t() @ patches.transpose(1, 2).reshape(len(rows), -1)).view(shape)

    def input_grad(self, dy: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """Gradient at the input, `L^T(dy)`."""
        return conv_grad.conv2d_input(
            shape, weight, dy, self.stride, self.padding, self.dilation, self.groups
        )

    def _small_and_tiled(self, dy: Tensor) -> bool:
        # AMX tiles: oneDNN's weight gradient over 4x4 and 8x8 maps runs at a tenth of the matrix
        # rate there (49.5 ms against 10.5 for 512 channels at 4x4, 160 images). Processors
        # without tiles, and GPUs, were measured the other way round.
        small = dy.shape[2] * dy.shape[3] <= 64 and self.groups == 1
        return small and dy.dtype == torch.bfloat16 and dy.device.type == "cpu" and has_tiles()


def has_tiles() -> bool:
    """Whether this processor has AMX bf16 tiles."""
    return getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
