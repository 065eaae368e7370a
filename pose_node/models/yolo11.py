"""YOLO11: C3k2 blocks and, after the pyramid pooling, self-attention over positions.

The head is that of YOLOv8 (`pose_node.models.yolov8.PoseHead`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pose_node.models.blocks import C3, Block, C2f


class C3k(C3):
    """A C3 block whose bottlenecks have kernels of any size."""


class C3k2(C2f):
    """A C2f block whose parts are bottlenecks or C3k blocks, as the checkpoint records."""


class Attention(Block):
    """Multi-head self-attention over all positions of a feature map, keys half as wide as values.

    Args:
        qkv: 1x1 convolution to query, key and value of all heads.
        proj: 1x1 convolution of the result.
        pe: depthwise convolution of the values, which tells the positions apart.
        num_heads: number of heads h; each has 2 * key_dim + head_dim channels of `qkv`.
        key_dim: channels of one head's query, and of its key.
        head_dim: channels of one head's value.
    """

    SETTINGS = ("num_heads", "key_dim", "head_dim")

    def __init__(
        self,
        qkv: nn.Module,
        proj: nn.Module,
        pe: nn.Module,
        num_heads: int,
        key_dim: int,
        head_dim: int,
    ) -> None:
        super().__init__()
        self.qkv = qkv
        self.proj = proj
        self.pe = pe
        self.num_heads = int(num_heads)
        self.key_dim = int(key_dim)
        self.head_dim = int(head_dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        query, key, value = (
            self.qkv(x)
            .view(batch, self.num_heads, 2 * self.key_dim + self.head_dim, height * width)
            .split((self.key_dim, self.key_dim, self.head_dim), dim=2)
        )  # each (B, h, channels of a head, H * W)
        weights = (query.transpose(2, 3) @ key * self.key_dim**-0.5).softmax(3)
        attended = (value @ weights.transpose(2, 3)).view(batch, channels, height, width)
        positions = self.pe(value.reshape(batch, channels, height, width))
        return self.proj(attended + positions)


class PSABlock(Block):
    """Attention and a two-layer feed-forward network, each added to its input."""

    SETTINGS = ("add",)

    def __init__(self, attn: nn.Module, ffn: nn.Module, add: bool) -> None:
        super().__init__()
        self.attn = attn
        self.ffn = ffn
        self.add = bool(add)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x) if self.add else self.attn(x)
        return x + self.ffn(x) if self.add else self.ffn(x)


class C2PSA(Block):
    """Sends half of the channels through attention blocks `m`, the other half around them."""

    def __init__(self, cv1: nn.Module, cv2: nn.Module, m: nn.Module) -> None:
        super().__init__()
        self.cv1 = cv1
        self.cv2 = cv2
        self.m = m

    def forward(self, x: Tensor) -> Tensor:
        around, through = self.cv1(x).chunk(2, 1)
        return self.cv2(torch.cat((around, self.m(through)), 1))
