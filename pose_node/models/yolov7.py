"""YOLOv7-w6 with keypoints: its own blocks, and implicit knowledge in the head.

The head is that of YOLOv5 with learned constants added before and multiplied after the convolution
of boxes (Wang et al. 2021, "You Only Learn One Representation").
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pose_node.models.blocks import Block
from pose_node.models.node_makers import LayerList, convolution, max_pool, numbered
from pose_node.models.nodes import MAX_CHANNELS, NetworkDescription, Node
from pose_node.models.yolov5 import AnchorHead, anchor_head, check_pools, fold_columns_first


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
        check_pools(m)
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
        for boxes, added, factor in zip(m, ia, im, strict=True):
            if (
                not isinstance(boxes, nn.Conv2d)
                or boxes.weight.shape != (factor.channel, added.channel, 1, 1)
                or boxes.bias is None
                or (boxes.stride, boxes.padding) != ((1, 1), (0, 0))
            ):
                raise ValueError("implicit knowledge must go with 1 x 1 convolutions of its width")
        self.ia: Sequence[nn.Module] = ia
        self.im: Sequence[nn.Module] = im

    def _boxes(self, level: int, feature: Tensor) -> Tensor:
        boxes: Tensor = self.im[level](self.m[level](self.ia[level](feature)))
        return boxes

    def fuse(self) -> None:
        """Fold the constants into the convolutions: im * (W (x + ia) + b)."""
        for boxes, ia, im in zip(self.m, self.ia, self.im, strict=True):
            if not isinstance(ia, ImplicitA) or not isinstance(im, ImplicitM):
                return  # done before
            assert isinstance(boxes, nn.Conv2d)
            assert boxes.bias is not None
            weight, bias, factor = boxes.weight, boxes.bias, im.implicit.flatten()
            shift = nn.functional.conv2d(ia.implicit, weight).flatten()
            boxes.bias = nn.Parameter((bias + shift) * factor, False)
            boxes.weight = nn.Parameter(weight * factor[:, None, None, None], False)
        self.ia = self.im = nn.ModuleList(nn.Identity() for _ in self.m)  # type: ignore[assignment]


# --- The published network ------------------------------------------------------------------------


def architecture(*, num_classes: int = 1, num_keypoints: int = 17) -> NetworkDescription:
    """The published network, YOLOv7-w6-pose.

    Args:
        num_classes: classes of objects.
        num_keypoints: keypoints of each person.
    """
    net = LayerList()

    def convolve(width: int, kernel: int = 1, stride: int = 1, source: int = -1) -> int:
        block = convolution(net.widths[source], width, kernel, stride)
        return net.add(block, width, source)

    def stage(width: int, inner: int, outputs: int, joined: Sequence[int]) -> int:
        """Two branches of one input, a chain of four convolutions on the second, some joined."""
        convolve(width)
        convolve(width, source=-2)
        for _ in range(4):
            convolve(inner, 3)
        net.concat(*joined)
        return convolve(outputs)

    def backbone(width: int, outputs: int) -> int:
        return stage(width, width, outputs, (-1, -3, -5, -6))

    def neck(width: int) -> int:
        return stage(width, width // 2, width, (-1, -2, -3, -4, -5, -6))

    net.add(Node("ReOrg"), 12)
    convolve(64, 3)
    features = []
    for width, inner, outputs in (
        *((128, 64, 128), (256, 128, 256), (512, 256, 512)),
        *((768, 384, 768), (1024, 512, 1024)),
    ):
        convolve(width, 3, 2)
        features.append(backbone(inner, outputs))
    joints = [net.add(_pooling(net.width, 512), 512)]
    for width, feature in zip((384, 256, 128), reversed(features[1:4]), strict=True):
        convolve(width)
        net.upsample()
        convolve(width, source=feature)
        net.concat(-1, -2)
        joints.append(neck(width))
    merged = [joints.pop()]
    for width in (256, 384, 512):
        convolve(width, 3, 2)
        net.concat(-1, joints.pop())
        merged.append(neck(width))
    widths = (256, 512, 768, 1024)
    read = [convolve(width, 3, source=source) for width, source in zip(widths, merged, strict=True)]
    plain = anchor_head(widths, num_classes=num_classes, num_keypoints=num_keypoints)
    boxes = plain.parts["m"].parts.values()
    head = Node(
        "IKeypoint",
        plain.settings,
        {
            **plain.parts,
            "ia": numbered(
                "ModuleList", [Node("ImplicitA", {"channel": width}) for width in widths]
            ),
            "im": numbered(
                "ModuleList",
                [Node("ImplicitM", {"channel": box.settings["out_channels"]}) for box in boxes],
            ),
        },
    )
    net.add(head, 0, *read)
    return NetworkDescription("yolov7", tuple(net.layers), ())


def _pooling(inputs: int, outputs: int) -> Node:
    parts = {
        "cv1": convolution(inputs, outputs),
        "cv2": convolution(inputs, outputs),
        "cv3": convolution(outputs, outputs, 3),
        "cv4": convolution(outputs, outputs),
        "cv5": convolution(4 * outputs, outputs),
        "cv6": convolution(outputs, outputs, 3),
        "cv7": convolution(2 * outputs, outputs),
        "m": numbered("ModuleList", [max_pool(kernel) for kernel in (5, 9, 13)]),
    }
    return Node("SPPCSPC", {}, parts)
