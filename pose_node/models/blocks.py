"""The blocks that YOLO-Pose networks are made of, shared by all families.

Every block takes its parts ready-made: a checkpoint records its module tree, and building from that
tree, rather than from a table of widths and depths, reproduces pruned, widened and fused networks
alike. The names of the parts (``cv1``, ``m``, ...) are those of the checkpoints, so that weights
are found under their own names. Feature maps are (B, C, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Base of all blocks.

    Class attributes:
        SETTINGS: the plain values of a recorded block that its constructor takes by name.
        OPTIONAL_SETTINGS: the same, with the value that older checkpoints mean by leaving it out.
        IGNORED_PARTS: parts of a recorded block that only training needs.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = ()
    OPTIONAL_SETTINGS: ClassVar[dict[str, Any]] = {}
    IGNORED_PARTS: ClassVar[tuple[str, ...]] = ()


class Convolution(Block):
    """Convolution, batch normalisation, activation."""

    def __init__(self, conv: nn.Conv2d, act: nn.Module, bn: nn.BatchNorm2d | None = None) -> None:
        super().__init__()
        self.conv = conv
        self.bn = bn
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        return self.act(x)

    def fuse(self) -> None:
        """Fold the batch normalisation into the convolution: same output, one step less."""
        if self.bn is None:
            return
        self.conv = nn.utils.fuse_conv_bn_eval(self.conv, self.bn)
        self.bn = None


class Bottleneck(Block):
    """Two convolutions, with the input added to the output where `add` says so."""

    SETTINGS = ("add",)

    def __init__(self, cv1: nn.Module, cv2: nn.Module, add: bool) -> None:
        super().__init__()
        self.cv1 = cv1
        self.cv2 = cv2
        self.add = bool(add)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.cv2(self.cv1(x))
        return x + y if self.add else y


class C3(Block):
    """Cross-stage partial block: one branch through the bottlenecks `m`, one around them."""

    def __init__(self, cv1: nn.Module, cv2: nn.Module, cv3: nn.Module, m: nn.Module) -> None:
        super().__init__()
        self.cv1 = cv1
        self.cv2 = cv2
        self.cv3 = cv3
        self.m = m

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class C2f(Block):
    """Cross-stage partial block that keeps the output of every one of its blocks `m`."""

    def __init__(self, cv1: nn.Module, cv2: nn.Module, m: Sequence[nn.Module]) -> None:
        super().__init__()
        self.cv1 = cv1
        self.cv2 = cv2
        self.m = m

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.cv1(x).chunk(2, 1))
        for block in self.m:
            parts.append(block(parts[-1]))
        return self.cv2(torch.cat(parts, 1))


class SPPF(Block):
    """Spatial pyramid pooling: the input and its maxima over ever larger windows."""

    OPTIONAL_SETTINGS: ClassVar[dict[str, Any]] = {"n": 3, "add": False}

    def __init__(
        self, cv1: nn.Module, cv2: nn.Module, m: nn.Module, n: int = 3, add: bool = False
    ) -> None:
        super().__init__()
        self.cv1 = cv1
        self.cv2 = cv2
        self.m = m
        self.n = int(n)
        self.add = bool(add)
        if not 1 <= self.n <= 8:
            raise ValueError(f"SPPF pools 1 to 8 times, got {n}")

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.cv1(x)]
        for _ in range(self.n):
            parts.append(self.m(parts[-1]))
        y: Tensor = self.cv2(torch.cat(parts, 1))
        return x + y if self.add else y


class Concat(Block):
    """Joins several feature maps along the channels."""

    OPTIONAL_SETTINGS: ClassVar[dict[str, Any]] = {"d": 1}

    def __init__(self, d: int = 1) -> None:
        super().__init__()
        if d != 1:
            raise ValueError(f"Concat joins channels (dimension 1), got dimension {d}")

    def forward(self, x: Sequence[Tensor]) -> Tensor:
        return torch.cat(tuple(x), 1)
