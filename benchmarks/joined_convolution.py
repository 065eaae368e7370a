"""Tried out by gpu.py: bias and activation of a convolution in one kernel instead of two.

cuDNN as torch calls it gives the convolution alone; bias and SiLU follow as kernels of their own,
some two hundred small ones in the smallest networks. `torch.compile` joins them, too. If this pays,
it belongs into the package.
"""

from __future__ import annotations

from typing import Any

import torch
import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]
from torch import Tensor, nn

from pose_node.models.blocks import Convolution

BLOCK = 1024


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _add_and_silu(  # type: ignore[no-untyped-def]
    values, bias, channels, inner, numbers, BLOCK: tl.constexpr
):
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = index < numbers
    channel = (index // inner) % channels
    x = tl.load(values + index, mask=there, other=0.0).to(tl.float32)
    x += tl.load(bias + channel, mask=there, other=0.0).to(tl.float32)
    x = x / (1.0 + tl.exp(-x))
    tl.store(values + index, x.to(values.dtype.element_ty), mask=there)


def add_and_silu(values: Tensor, bias: Tensor) -> Tensor:
    """Add a bias to each channel, then SiLU, in place.

    Args:
        values: (B, C, H, W), without gaps, channels last or first.
        bias: (C,).
    """
    last = values.is_contiguous(memory_format=torch.channels_last)
    if not last and not values.is_contiguous():
        raise ValueError(f"expected a tensor without gaps, got strides {values.stride()}")
    inner = 1 if last else values.shape[2] * values.shape[3]
    grid = (triton.cdiv(values.numel(), BLOCK),)
    _add_and_silu[grid](
        values, bias, values.shape[1], inner, values.numel(), BLOCK=BLOCK, num_warps=4
    )
    return values


class JoinedConvolution(nn.Module):
    """A convolution with bias, followed by SiLU."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        assert convolution.bias is not None
        self.bias = convolution.bias
        convolution.bias = None
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        return add_and_silu(self.convolution(x), self.bias)


def join(network: nn.Module) -> int:
    """Join what can be joined in a fused network: so many convolutions."""
    joined = 0
    for module in list(network.modules()):
        if isinstance(module, Convolution) and isinstance(module.act, nn.SiLU):
            convolution: Any = module.conv
            if module.bn is None and convolution.bias is not None:
                module.conv = JoinedConvolution(convolution)  # type: ignore[assignment]
                module.act = nn.Identity()
                joined += 1
    return joined
