"""YOLOv7-w6 with keypoints: its own blocks, and implicit knowledge in the head.

The head is that of YOLOv5 with learned constants added before and multiplied after the convolution
of boxes (Wang et al. 2021, "You Only Learn One Representation").
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pose_node.models.blocks import Block
from pose_node.models.nodes import MAX_CHANNELS
from pose_node.models.yolov5 import AnchorHead, fold_columns_first


class ReOrg(Block):
    """Folds 2 x 2 pixels into channels."""

    def forward(self, x: Tensor) -> Tensor:
        return fold_columns_first(x)


class SPPCSPC(Block):
    """Spatial pyramid pooling in one branch of a cross-stage partial block."""

    def __init__(
        self,
        cv1: nn.Module,
        cv2: nn.Module,
        cv3: nn.Module,
        cv4: nn.Module,
        cv5: nn.Module,
        cv6: nn.Module,
        cv7: nn.Module,
        m: Sequence[nn.Module],
    ) -> None:
        super().__init__()
        self.cv1 = cv1
        self.cv2 = cv2
        self.cv3 = cv3
        self.cv4 = cv4
        self.cv5 = cv5
        self.cv6 = cv6
        self.cv7 = cv7
        self.m = m

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.cv4(self.cv3(self.cv1(x)))
        through = self.cv6(self.cv5(torch.cat((pooled, *(pool(pooled) for pool in self.m)), 1)))
        return self.cv7(torch.cat((through, self.cv2(x)), 1))


class _Implicit(Block):
    """A learned constant for each channel."""

    implicit: nn.Parameter
    SETTINGS = ("channel",)

    def __init__(self, channel: int) -> None:
        super().__init__()
        if not 0 < channel <= MAX_CHANNELS:
            raise ValueError(f"channel must be 1 to {MAX_CHANNELS}, got {channel!r:.20}")
        self.channel = channel
        self.implicit = nn.Parameter(torch.empty(1, channel, 1, 1, device="meta"))


class ImplicitA(_Implicit):
    """Adds its constants."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.implicit


class ImplicitM(_Implicit):
    """Multiplies by its constants."""

    def forward(self, x: Tensor) -> Tensor:
        return x * self.implicit


class ImplicitAnchorHead(AnchorHead):
    """An anchor head with implicit knowledge around the convolutions of boxes and scores.

    Args:
        m, m_kpt, nc, nkpt, na, nl: see `AnchorHead`.
        ia: for each feature map, the constants added to it.
        im: for each feature map, the constants that boxes and scores are multiplied by.
    """

    def __init__(
        self,
        m: Sequence[nn.Module],
        m_kpt: Sequence[nn.Module],
        nc: int,
        nkpt: int,
        na: int,
        nl: int,
        ia: Sequence[_Implicit],
        im: Sequence[_Implicit],
    ) -> None:
        super().__init__(m, m_kpt, nc, nkpt, na, nl)
        if not len(ia) == len(im) == nl:
            raise ValueError("the head must have implicit knowledge for each level")
        for convolution, added, factor in zip(m, ia, im, strict=True):
            if (
                not isinstance(convolution, nn.Conv2d)
                or convolution.weight.shape != (factor.channel, added.channel, 1, 1)
                or convolution.bias is None
                or (convolution.stride, convolution.padding) != ((1, 1), (0, 0))
            ):
                raise ValueError("implicit knowledge must go with 1 x 1 convolutions of its width")
        self.ia: Sequence[nn.Module] = ia
        self.im: Sequence[nn.Module] = im

    def _boxes(self, level: int, feature: Tensor) -> Tensor:
        boxes: Tensor = self.im[level](self.m[level](self.ia[level](feature)))
        return boxes

    def fuse(self) -> None:
        """Fold the constants into the convolutions: im * (W (x + ia) + b)."""
        for convolution, ia, im in zip(self.m, self.ia, self.im, strict=True):
            if not isinstance(ia, ImplicitA) or not isinstance(im, ImplicitM):
                return  # done before
            assert isinstance(convolution, nn.Conv2d)
            assert convolution.bias is not None
            weight, bias, factor = convolution.weight, convolution.bias, im.implicit.flatten()
            shift = nn.functional.conv2d(ia.implicit, weight).flatten()
            convolution.bias = nn.Parameter((bias + shift) * factor, False)
            convolution.weight = nn.Parameter(weight * factor[:, None, None, None], False)
        self.ia = self.im = nn.ModuleList(nn.Identity() for _ in self.m)  # type: ignore[assignment]
