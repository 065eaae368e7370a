"""What all heads of YOLO-Pose networks have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from pose_node.models.blocks import Block
from pose_node.models.preprocessing import Preprocessing


class Head(Block):
    """The last layer: feature maps in, raw maps of boxes, scores and keypoints out.

    Raw maps are a list with one named tuple of tensors (B, channels, H, W) for each level.

    Attributes:
        PREPROCESSING: how networks with this head want their images.
        num_keypoints: keypoints of each person, K.
        keypoint_dimensions: 3 for x, y and score, 2 for x and y.
        num_classes: classes of objects.
        end_to_end: whether the rows need no suppression of duplicates.
    """

    PREPROCESSING: ClassVar[Preprocessing] = Preprocessing()

    num_keypoints: int
    keypoint_dimensions: int
    num_classes: int
    end_to_end: bool = False

    @abstractmethod
    def check(self, raw: Sequence[Any]) -> None:
        """Compare the maps with what the settings promise.

        Raises:
            ValueError: a map has another number of channels.
        """

    @abstractmethod
    def decode(self, raw: Sequence[Any], strides: Sequence[int]) -> Tensor:
        """Turn raw maps into boxes, scores and keypoints in pixels of the network's input.

        Args:
            raw: the maps of each level, as `forward` gives them.
            strides: input pixels per cell, for each level.

        Returns:
            (B, A, 4 + num_classes + K * D): x1 y1 x2 y2, class scores with objectness multiplied
            in, keypoints; A counts the predictions of all levels, level by level.
        """

    def choose(self, end_to_end: bool | None) -> None:
        """Choose between branches that need suppression of duplicates and those that do not.

        Args:
            end_to_end: None takes what the head's authors recommend.

        Raises:
            ValueError: the head has only the other kind.
        """
        if end_to_end:
            raise ValueError("its head has no branch that needs no suppression (end_to_end)")

    def fuse(self) -> None:
        """Fold what training keeps apart, and drop what is not used."""


def cells(height: int, width: int, like: Tensor) -> Tensor:
    """Column and row of every cell of a map, row by row: (2, H * W)."""
    rows = torch.arange(height, dtype=like.dtype, device=like.device)
    columns = torch.arange(width, dtype=like.dtype, device=like.device)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack((x.flatten(), y.flatten()))
