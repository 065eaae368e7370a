"""YOLOv5 with keypoints (edgeai-yolov5, the network of the YOLO-Pose paper).

Maji et al. 2022, "YOLO-Pose: Enhancing YOLO for Multi Person Pose Estimation Using Object Keypoint
Similarity Loss". The head is anchor-based: for every cell and each of three anchors it predicts a
box, an objectness, class scores and keypoints relative to the cell. YOLOv7 shares it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pose_node.models.blocks import Block
from pose_node.models.heads import Head, cells
from pose_node.models.node_makers import (
    LayerList,
    c3,
    conv2d,
    convolution,
    depth_of,
    depthwise,
    max_pool,
    numbered,
    sequential,
    width_of,
)
from pose_node.models.nodes import NetworkDescription, Node


class AnchorMaps(NamedTuple):
    """Raw output of the head for one feature map of H x W cells.

    Attributes:
        rows: (B, anchors * R, H, W) logits, R = 5 + num_classes + 3K: x, y, width, height,
            objectness, classes, keypoints as x, y, visibility.
    """

    rows: Tensor


def fold_columns_first(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, 4C, H/2, W/2): every second pixel, the rows of a column together.

    The order of the groups is (row 0, column 0), (1, 0), (0, 1), (1, 1).
    """
    return torch.cat(
        (x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]), 1
    )


class Contract(Block):
    """(B, C, H, W) to (B, C * gain^2, H / gain, W / gain), the columns of a row together.

    With a gain of 2 the order of the groups is (row 0, column 0), (0, 1), (1, 0), (1, 1).
    """

    SETTINGS = ("gain",)

    def __init__(self, gain: int) -> None:
        super().__init__()
        if gain != 2:
            raise ValueError(f"it must fold by 2, got {gain!r:.20}")

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            (x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]), 1
        )


class Focus(Block):
    """Folds 2 x 2 pixels into channels, then convolves.

    The order of the folded channels depends on the version that trained the network: with
    `contract` it is that of `Contract`, else that of `fold_columns_first`.
    """

    def __init__(self, conv: nn.Module, contract: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = conv
        self.contract = contract

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(fold_columns_first(x) if self.contract is None else self.contract(x))


class ConvFocus(Block):
    """A convolution with stride 2 in the place of folding, for hardware that cannot fold."""

    def __init__(self, conv_slice: nn.Module, conv: nn.Module) -> None:
        super().__init__()
        self.conv_slice = conv_slice
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv_slice(x))


def check_pools(pools: Sequence[nn.Module]) -> None:
    """Refuse a number of windows with which a small file could ask for a lot of memory.

    Raises:
        ValueError: there are more than 8.
    """
    if len(pools) > 8:
        raise ValueError(f"it pools over {len(pools)} windows, expected at most 8")


class SPP(Block):
    """Spatial pyramid pooling: the input and its maxima over the windows `m`, side by side."""

    def __init__(self, cv1: nn.Module, cv2: nn.Module, m: Sequence[nn.Module]) -> None:
        super().__init__()
        check_pools(m)
        self.cv1 = cv1
        self.cv2 = cv2
        self.m = m

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        return self.cv2(torch.cat((x, *(pool(x) for pool in self.m)), 1))


class AnchorHead(Head):
    """Boxes, classes and keypoints for every cell and anchor of every feature map.

    The channels of `m` and `m_kpt` are laid side by side and then cut into one row for each anchor:
    the cut does not fall where one branch ends and the other begins. That is how the networks were
    trained.

    Args:
        m: for each feature map, the convolution that gives boxes and scores.
        m_kpt: for each feature map, the convolutions that give keypoints.
        nc: number of classes.
        nkpt: number of keypoints, K.
        na: anchors of each level.
        nl: levels.

    Attributes:
        anchor_grid: width and height of the anchors in pixels, (levels, 1, anchors, 1, 1, 2).
    """

    SETTINGS = ("nc", "nkpt", "na", "nl")
    anchor_grid: Tensor

    def __init__(
        self,
        m: Sequence[nn.Module],
        m_kpt: Sequence[nn.Module],
        nc: int,
        nkpt: int,
        na: int,
        nl: int,
    ) -> None:
        super().__init__()
        if not 1 <= nkpt <= 1000 or not 1 <= na <= 16 or not len(m) == len(m_kpt) == nl:
            raise ValueError(
                f"the head must have keypoints, 1 to 16 anchors and a branch for each level, got "
                f"{nkpt} keypoints, {na} anchors and {len(m)} and {len(m_kpt)} branches for {nl} "
                "levels"
            )
        self.m = m
        self.m_kpt = m_kpt
        self.num_classes = int(nc)
        self.num_keypoints = int(nkpt)
        self.keypoint_dimensions = 3
        self.num_anchors = int(na)
        self.register_buffer("anchor_grid", torch.empty(nl, 1, na, 1, 1, 2, device="meta"))

    def forward(self, features: Sequence[Tensor]) -> list[AnchorMaps]:
        return [
            AnchorMaps(torch.cat((self._boxes(level, feature), keypoints(feature)), 1))
            for level, (feature, keypoints) in enumerate(zip(features, self.m_kpt, strict=True))
        ]

    def _boxes(self, level: int, feature: Tensor) -> Tensor:
        boxes: Tensor = self.m[level](feature)
        return boxes

    def check(self, raw: Sequence[AnchorMaps]) -> None:
        """See `Head.check`."""
        expected = self.num_anchors * self._row_length
        if found := [maps.rows.shape[1] for maps in raw if maps.rows.shape[1] != expected]:
            raise ValueError(f"the head's maps must have {expected} channels, got {found}")

    @property
    def _row_length(self) -> int:
        return 5 + self.num_classes + 3 * self.num_keypoints

    def decode(self, raw: Sequence[AnchorMaps], strides: Sequence[int]) -> Tensor:
        """See `Head.decode`."""
        maps = []
        for (rows,) in raw:
            batch, _, height, width = rows.shape
            cut = rows.view(batch, self.num_anchors, self._row_length, height, width)
            maps.append(cut.permute(0, 1, 3, 4, 2))
        anchors = self.anchor_grid.view(len(maps), self.num_anchors, 2)
        return decode_anchor_maps(maps, strides, anchors, num_classes=self.num_classes)

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # In float16, which a network may be cast to, large anchors lose up to half a pixel.
        anchors = self.anchor_grid
        super()._apply(function, recurse)  # type: ignore[no-untyped-call]
        self.anchor_grid = anchors.to(self.anchor_grid.device)
        return self


def decode_anchor_maps(
    maps: Sequence[Tensor], strides: Sequence[int], anchors: Tensor, *, num_classes: int = 1
) -> Tensor:
    """Turn anchor-based raw maps into boxes, scores and keypoints in pixels of the input.

    Args:
        maps: for each level (B, anchors, H, W, 5 + num_classes + 3K) logits.
        strides: input pixels per cell, for each level.
        anchors: (levels, anchors, 2) width and height in pixels.
        num_classes: classes of objects.

    Returns:
        (B, A, 4 + num_classes + 3K): x1 y1 x2 y2, class scores with objectness multiplied in,
        keypoints; level by level, anchor by anchor, row by row.
    """
    decoded = []
    for level, (rows, stride) in enumerate(zip(maps, strides, strict=True)):
        batch, num_anchors, height, width, length = rows.shape
        cell = cells(height, width, rows).T.reshape(height, width, 2)
        logistic = rows[..., : 5 + num_classes].sigmoid()
        centre = (logistic[..., :2] * 2 - 0.5 + cell) * stride
        size = (logistic[..., 2:4] * 2).square() * anchors[level].view(num_anchors, 1, 1, 2)
        scores = logistic[..., 4:5] * logistic[..., 5:]
        points = rows[..., 5 + num_classes :].reshape(batch, num_anchors, height, width, -1, 3)
        xy = (points[..., :2] * 2 - 0.5 + cell[:, :, None]) * stride
        located = torch.cat((xy, points[..., 2:].sigmoid()), -1).flatten(4)
        result = torch.cat((centre - size / 2, centre + size / 2, scores, located), -1)
        decoded.append(result.view(batch, -1, length - 1))
    return torch.cat(decoded, 1)


# --- The published networks -----------------------------------------------------------------------

ANCHORS = (
    ((19, 27), (44, 40), (38, 94)),
    ((96, 68), (86, 152), (180, 137)),
    ((140, 301), (303, 264), (238, 542)),
    ((436, 615), (739, 380), (925, 792)),
)
"""Width and height in pixels of the published networks' anchors, level by level."""

SCALES = {"s6": (0.33, 0.50), "m6": (0.67, 0.75), "l6": (1.0, 1.0)}
"""Depth and width of the published sizes."""


def architecture(
    size: str,
    *,
    lite: bool = False,
    depthwise_keypoints: bool = True,
    num_classes: int = 1,
    num_keypoints: int = 17,
) -> NetworkDescription:
    """A published network.

    Args:
        size: "s6", "m6" or "l6".
        lite: the variant for hardware with few operators: no folding, ReLU, except in the pooling.
        depthwise_keypoints: whether keypoints are found by six depthwise convolutions; the lite
            networks, and some published configurations of the larger ones, have only a single
            convolution.
        num_classes: classes of objects.
        num_keypoints: keypoints of each person.
    """
    depth, width = SCALES[size]
    activation = "ReLU" if lite else "SiLU"
    conv = functools.partial(convolution, activation=activation)
    net = LayerList()

    def convolve(channels: int, kernel: int = 1, stride: int = 1) -> int:
        outputs = width_of(channels, width)
        return net.add(conv(net.width, outputs, kernel, stride), outputs)

    def stage(channels: int, repeats: int, add: bool = True) -> int:
        outputs = width_of(channels, width)
        block = c3(net.width, outputs, depth_of(repeats, depth), add=add, conv=conv)
        return net.add(block, outputs)

    first = width_of(64, width)
    if lite:
        parts = {"conv_slice": conv(3, 12, 3, 2), "conv": conv(12, first, 3)}
        net.add(Node("ConvFocus", {}, parts), first)
    else:
        parts = {"contract": Node("Contract", {"gain": 2}), "conv": conv(12, first, 3)}
        net.add(Node("Focus", {}, parts), first)
    for channels, repeats in ((128, 3), (256, 9), (512, 9), (768, 3)):
        convolve(channels, 3, 2)
        stage(channels, repeats)
    convolve(1024, 3, 2)
    net.add(_pooling(net.width), net.width)
    stage(1024, 3, add=False)
    laterals, outputs = [], []
    for channels, joined in ((768, 8), (512, 6), (256, 4)):
        laterals.append(convolve(channels))
        net.upsample()
        net.concat(-1, joined)
        last = stage(channels, 3, add=False)
    outputs.append(last)
    for channels, larger, lateral in zip(
        (256, 512, 768), (512, 768, 1024), reversed(laterals), strict=True
    ):
        convolve(channels, 3, 2)
        net.concat(-1, lateral)
        outputs.append(stage(larger, 3, add=False))
    head = anchor_head(
        [net.widths[index] for index in outputs],
        num_classes=num_classes,
        num_keypoints=num_keypoints,
        activation=activation,
        depthwise_keypoints=depthwise_keypoints and not lite,
    )
    net.add(head, 0, *outputs)
    return NetworkDescription("yolov5", tuple(net.layers), ())


def _pooling(width: int) -> Node:
    """Windows of 3, 5 and 7, made of windows of 3. Its activation is SiLU in lite networks, too."""
    parts = {
        "cv1": convolution(width, width // 2),
        "cv2": convolution(2 * width, width),
        "m": numbered("ModuleList", [sequential(*[max_pool(3)] * n) for n in (1, 2, 3)]),
    }
    return Node("SPP", {}, parts)


def anchor_head(
    widths: Sequence[int],
    *,
    num_classes: int,
    num_keypoints: int,
    activation: str = "SiLU",
    depthwise_keypoints: bool = True,
) -> Node:
    """Describe an `AnchorHead` for feature maps of these widths."""
    anchors = len(ANCHORS[0])
    boxes = [conv2d(width, anchors * (5 + num_classes)) for width in widths]
    keypoints = []
    for width in widths:
        last = conv2d(width, anchors * 3 * num_keypoints)
        pair = (
            depthwise(width, width, activation),
            convolution(width, width, activation=activation),
        )
        branch = sequential(*pair * 5, depthwise(width, width, activation), last)
        keypoints.append(branch if depthwise_keypoints else last)
    return Node(
        "Detect",
        {"nc": num_classes, "nkpt": num_keypoints, "na": anchors, "nl": len(widths)},
        {"m": numbered("ModuleList", boxes), "m_kpt": numbered("ModuleList", keypoints)},
    )
