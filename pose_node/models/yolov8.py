"""YOLOv8: C2 and C2f blocks, and the anchor-free pose head that YOLO11 shares.

The head predicts, for every cell of three or four feature maps, a box as four distances (each the
mean of a discrete distribution), class scores without objectness, and all keypoints relative to the
cell. Source: the published formulas of YOLOv8-pose; distribution focal loss: Li et al. 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from pose_node.models.blocks import Block
from pose_node.models.heads import Head, cells


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
