"""YOLOv8: C2 and C2f blocks, and the anchor-free pose head that YOLO11 shares.

The head predicts, for every cell of three or four feature maps, a box as four distances (each the
mean of a discrete distribution), class scores without objectness, and all keypoints relative to the
cell. Source: the published formulas of YOLOv8-pose; distribution focal loss: Li et al. 2020.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from pose_node.models.blocks import Block
from pose_node.models.heads import Head, cells
from pose_node.models.node_makers import (
    LayerList,
    bottleneck,
    conv2d,
    convolution,
    depth_of,
    max_pool,
    numbered,
    sequential,
    width_of,
)
from pose_node.models.nodes import NetworkDescription, Node


class LevelMaps(NamedTuple):
    """Raw output of the head for one feature map of H x W cells.

    Attributes:
        boxes: (B, 4 * bins, H, W) logits of the distances to left, top, right, bottom.
        classes: (B, num_classes, H, W) logits.
        keypoints: (B, K * D, H, W): x, y and, where D is 3, a visibility logit.
    """

    boxes: Tensor
    classes: Tensor
    keypoints: Tensor


class C2(Block):
    """Sends half of the channels through bottlenecks `m`, the other half around them."""

    def __init__(self, cv1: nn.Module, cv2: nn.Module, m: nn.Module) -> None:
        super().__init__()
        self.cv1 = cv1
        self.cv2 = cv2
        self.m = m

    def forward(self, x: Tensor) -> Tensor:
        through, around = self.cv1(x).chunk(2, 1)
        return self.cv2(torch.cat((self.m(through), around), 1))


class PoseHead(Head):
    """Boxes, classes and keypoints for every cell of every feature map.

    Args:
        cv2: for each feature map, the convolutions that give box distances.
        cv3: likewise for class scores.
        cv4: likewise for keypoints.
        kpt_shape: number of keypoints K, and 3 for x, y, visibility or 2 for x, y.
        reg_max: number of bins of a box distance.
        nc: number of classes.
    """

    SETTINGS = ("kpt_shape", "reg_max", "nc")
    # The convolution that takes the mean of the bins has the fixed weights 0, 1, 2, ...
    IGNORED_PARTS: ClassVar[tuple[str, ...]] = ("dfl",)

    def __init__(
        self,
        cv2: Sequence[nn.Module],
        cv3: Sequence[nn.Module],
        cv4: Sequence[nn.Module],
        kpt_shape: Sequence[int],
        reg_max: int,
        nc: int,
    ) -> None:
        super().__init__()
        self.num_keypoints, self.keypoint_dimensions = (int(value) for value in kpt_shape)
        if self.num_keypoints < 1 or self.keypoint_dimensions not in (2, 3):
            raise ValueError(f"kpt_shape must be (keypoints, 2 or 3), got {tuple(kpt_shape)}")
        if not len(cv2) == len(cv3) == len(cv4) or not len(cv2):
            raise ValueError("the head must have as many box, class and keypoint branches")
        self.cv2 = cv2
        self.cv3 = cv3
        self.cv4 = cv4
        self.num_bins = int(reg_max)
        self.num_classes = int(nc)

    def forward(self, features: Sequence[Tensor]) -> list[LevelMaps]:
        return [
            LevelMaps(boxes(feature), classes(feature), keypoints(feature))
            for feature, boxes, classes, keypoints in zip(
                features, self.cv2, self.cv3, self.cv4, strict=True
            )
        ]

    def check(self, raw: Sequence[LevelMaps]) -> None:
        """See `Head.check`."""
        expected = (
            4 * self.num_bins,
            self.num_classes,
            self.num_keypoints * self.keypoint_dimensions,
        )
        for maps in raw:
            found = tuple(part.shape[1] for part in maps)
            if found != expected:
                raise ValueError(
                    f"the head's maps must have {expected} channels for boxes, classes and "
                    f"keypoints, got {found}"
                )

    def decode(self, raw: Sequence[LevelMaps], strides: Sequence[int]) -> Tensor:
        """See `Head.decode`."""
        boxes, classes, keypoints = (
            torch.cat([part.flatten(2) for part in parts], 2) for parts in zip(*raw, strict=True)
        )  # each (B, channels, A)
        cell, stride = _cells_and_strides(raw, strides)
        centre = cell + 0.5
        distances = self._distances(boxes)
        left_top = (centre - distances[:, :2]) * stride
        right_bottom = (centre + distances[:, 2:]) * stride
        batch, _, count = keypoints.shape
        points = keypoints.view(batch, self.num_keypoints, self.keypoint_dimensions, count)
        xy = self._positions(points[:, :, :2], cell) * stride
        visible = points[:, :, 2:].sigmoid()
        located = torch.cat((xy, visible), 2).flatten(1, 2)
        rows = torch.cat((left_top, right_bottom, classes.sigmoid(), located), 1)
        return rows.transpose(1, 2)

    def _positions(self, raw: Tensor, cell: Tensor) -> Tensor:
        """Raw x and y (B, K, 2, A) to positions in cells."""
        return raw * 2 + cell

    def _distances(self, boxes: Tensor) -> Tensor:
        """Mean of the bins of each side: (B, 4 * bins, A) -> (B, 4, A), in cells."""
        batch, _, count = boxes.shape
        probabilities = boxes.view(batch, 4, self.num_bins, count).softmax(2)
        bins = torch.arange(self.num_bins, dtype=boxes.dtype, device=boxes.device)
        return (probabilities * bins[:, None]).sum(2)


def _cells_and_strides(raw: Sequence[LevelMaps], strides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Column and row of every cell, (2, A), and its stride, (1, A)."""
    positions, sizes = [], []
    for maps, stride in zip(raw, strides, strict=True):
        like = maps.boxes
        height, width = like.shape[-2:]
        positions.append(cells(height, width, like))
        sizes.append(like.new_full((1, height * width), float(stride)))
    return torch.cat(positions, 1), torch.cat(sizes, 1)


# --- The published networks -----------------------------------------------------------------------

SCALES = {
    "n": (0.33, 0.25, 1024),
    "s": (0.33, 0.50, 1024),
    "m": (0.67, 0.75, 768),
    "l": (1.0, 1.0, 512),
    "x": (1.0, 1.25, 512),
}
"""Depth, width and largest number of channels, before scaling, of the published sizes."""

NUM_BINS = 16


def architecture(
    size: str,
    *,
    num_classes: int = 1,
    num_keypoints: int = 17,
    keypoint_dimensions: int = 3,
    training_parts: bool = False,
) -> NetworkDescription:
    """A published network.

    Args:
        size: "n", "s", "m", "l" or "x"; with "-p6" appended, one with a level of 64 pixels more.
        num_classes: classes of objects.
        num_keypoints: keypoints of each person.
        keypoint_dimensions: 3 for x, y and score, 2 for x and y.
        training_parts: describe also what only training needs.
    """
    scale, _, p6 = size.partition("-")
    depth, factor, largest = SCALES[scale]
    net = LayerList()

    def width(channels: int) -> int:
        return width_of(channels, factor, largest)

    def convolve(channels: int) -> int:
        return net.add(convolution(net.width, width(channels), 3, 2), width(channels))

    def stage(channels: int, repeats: int, kind: str = "C2f", add: bool = False) -> int:
        block = c2f(net.width, width(channels), depth_of(repeats, depth), add=add, kind=kind)
        return net.add(block, width(channels))

    net.add(convolution(3, width(64), 3, 2), width(64))
    deepest = ((768, 3), (1024, 3)) if p6 else ((1024, 3),)
    for channels, repeats in ((128, 3), (256, 6), (512, 6), *deepest):
        convolve(channels)
        last = stage(channels, repeats, add=True)
    features = list(range(4, last, 2))
    net.add(pooling(net.width), net.width)
    outputs = pyramid(
        net,
        features,
        up=lambda channels: stage(channels, 3, "C2" if p6 else "C2f"),
        down=lambda channels: stage(channels, 3, "C2" if p6 else "C2f"),
        convolve=convolve,
        channels=(256, 512, 768, 1024) if p6 else (256, 512, 1024),
    )
    head = pose_head(
        [net.widths[index] for index in outputs],
        num_classes=num_classes,
        keypoints=(num_keypoints, keypoint_dimensions),
        training_parts=training_parts,
    )
    net.add(head, 0, *outputs)
    return NetworkDescription("yolov8", tuple(net.layers), ())


def pyramid(
    net: LayerList,
    features: Sequence[int],
    *,
    up: Callable[[int], int],
    down: Callable[[int], int],
    convolve: Callable[[int], int],
    channels: Sequence[int],
) -> list[int]:
    """Append the neck: from the smallest map up to the largest, and down again.

    Args:
        net: the layers so far; the last one is the smallest map.
        features: indices of the larger maps, largest first.
        up, down: append a stage of so many channels on the way up and down.
        convolve: append a convolution that halves the map.
        channels: published width of each level, largest map first.

    Returns:
        Indices of the layers that the head reads, largest map first.
    """
    joints = [len(net.layers) - 1]
    for width, feature in zip(reversed(channels[:-1]), reversed(features), strict=True):
        net.upsample()
        net.concat(-1, feature)
        joints.append(up(width))
    outputs = [joints.pop()]
    for smaller, larger in itertools.pairwise(channels):
        convolve(smaller)
        net.concat(-1, joints.pop())
        outputs.append(down(larger))
    return outputs


def c2f(inputs: int, outputs: int, repeats: int, *, add: bool = True, kind: str = "C2f") -> Node:
    """Describe a "C2f" or "C2" block of plain bottlenecks."""
    hidden = outputs // 2
    repeated = [bottleneck(hidden, hidden, hidden, add=add)] * repeats
    if kind == "C2":
        parts = {"cv2": convolution(2 * hidden, outputs), "m": sequential(*repeated)}
    else:
        parts = {
            "cv2": convolution((2 + repeats) * hidden, outputs),
            "m": numbered("ModuleList", repeated),
        }
    return Node(kind, {}, {"cv1": convolution(inputs, 2 * hidden), **parts})


def pooling(width: int, *, activation: str = "SiLU", add: bool = False) -> Node:
    """Describe an "SPPF" block; `activation` is that of its first convolution."""
    parts = {
        "cv1": convolution(width, width // 2, activation=activation),
        "cv2": convolution(2 * width, width),
        "m": max_pool(5),
    }
    return Node("SPPF", {"n": 3, "add": add}, parts)


def pose_head(
    widths: Sequence[int],
    *,
    num_classes: int,
    keypoints: tuple[int, int],
    training_parts: bool,
    class_branch: Callable[[int, int, int], Node] | None = None,
) -> Node:
    """Describe a `PoseHead` for feature maps of these widths.

    Args:
        widths: channels of the feature maps, largest map first.
        num_classes: classes of objects.
        keypoints: number of keypoints and of their dimensions.
        training_parts: describe also what only training needs.
        class_branch: from inputs, hidden width and classes to a branch of class scores; None takes
            that of YOLOv8.
    """
    num_keypoints = keypoints[0] * keypoints[1]
    boxes = max(16, widths[0] // 4, 4 * NUM_BINS)
    classes = max(widths[0], min(num_classes, 100))
    points = max(widths[0] // 4, num_keypoints)
    make_class_branch = class_branch or branch
    parts = {
        "cv2": numbered("ModuleList", [branch(w, boxes, 4 * NUM_BINS) for w in widths]),
        "cv3": numbered("ModuleList", [make_class_branch(w, classes, num_classes) for w in widths]),
        "cv4": numbered("ModuleList", [branch(w, points, num_keypoints) for w in widths]),
    }
    if training_parts:
        parts["dfl"] = Node("DFL", {}, {"conv": conv2d(NUM_BINS, 1, bias=False)})
    settings = {"kpt_shape": list(keypoints), "reg_max": NUM_BINS, "nc": num_classes}
    return Node("Pose", settings, parts)


def branch(inputs: int, hidden: int, outputs: int) -> Node:
    """Describe the convolutions of one branch of a head."""
    return sequential(
        convolution(inputs, hidden, 3), convolution(hidden, hidden, 3), conv2d(hidden, outputs)
    )
