"""YOLO26: a head with two sets of branches, and boxes as plain distances.

The one-to-many branches propose a person several times, as those of YOLOv8 do; the one-to-one
branches learned to do so once and need no suppression. The backbone is that of YOLO11.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar, cast

from torch import Tensor, nn

from pose_node.models.node_makers import conv2d, convolution, numbered, sequential
from pose_node.models.nodes import NetworkDescription, Node
from pose_node.models.yolo11 import SCALES, body, class_branch
from pose_node.models.yolov8 import LevelMaps, PoseHead, branch

_Branches = Sequence[nn.Module]


class Pose26Head(PoseHead):
    """The pose head of YOLO26.

    Files from which batch normalisation was folded away keep only one of the two sets.

    Args:
        cv2: for each feature map, the convolutions that give box distances.
        cv3: likewise for class scores.
        cv4: likewise for features that describe keypoints.
        cv4_kpts: the convolution from those to keypoints.
        one2one_cv2, one2one_cv3, one2one_cv4, one2one_cv4_kpts: the same for one-to-one.
        kpt_shape: number of keypoints K, and 3 for x, y, visibility or 2 for x, y.
        reg_max: number of bins of a box distance; 1 means the distance itself.
        nc: number of classes.
    """

    IGNORED_PARTS: ClassVar[tuple[str, ...]] = (
        *("dfl", "flow_model", "cv4_sigma", "one2one_cv4_sigma"),
    )

    def __init__(
        self,
        kpt_shape: Sequence[int],
        reg_max: int,
        nc: int,
        cv2: _Branches | None = None,
        cv3: _Branches | None = None,
        cv4: _Branches | None = None,
        cv4_kpts: _Branches | None = None,
        one2one_cv2: _Branches | None = None,
        one2one_cv3: _Branches | None = None,
        one2one_cv4: _Branches | None = None,
        one2one_cv4_kpts: _Branches | None = None,
    ) -> None:
        one_to_many = (cv2, cv3, cv4, cv4_kpts)
        one_to_one = (one2one_cv2, one2one_cv3, one2one_cv4, one2one_cv4_kpts)
        chosen = one_to_many if None not in one_to_many else one_to_one
        if None in chosen:
            raise ValueError("the head must have complete one-to-many or one-to-one branches")
        boxes, classes, features, keypoints = cast(tuple[_Branches, ...], chosen)
        super().__init__(boxes, classes, features, kpt_shape, reg_max, nc)
        if len(keypoints) != len(features):
            raise ValueError("the head must have as many keypoint branches as feature branches")
        self.cv2, self.cv3, self.cv4, self.cv4_kpts = one_to_many  # type: ignore[assignment]
        self.one2one_cv2, self.one2one_cv3, self.one2one_cv4, self.one2one_cv4_kpts = one_to_one
        self.end_to_end = chosen is one_to_one

    def choose(self, end_to_end: bool | None) -> None:
        """See `Head.choose`. The authors recommend one-to-many, where it is there."""
        if end_to_end is None:
            return
        if None in (self._one_to_one() if end_to_end else self._one_to_many()):
            raise ValueError(
                "its head has only "
                + ("one-to-many" if end_to_end else "one-to-one")
                + f" branches, so end_to_end must be {not end_to_end}"
            )
        self.end_to_end = end_to_end

    def forward(self, features: Sequence[Tensor]) -> list[LevelMaps]:
        branches = self._one_to_one() if self.end_to_end else self._one_to_many()
        return [
            LevelMaps(boxes(feature), classes(feature), keypoints(describe(feature)))
            for feature, boxes, classes, describe, keypoints in zip(
                features, *cast(tuple[_Branches, ...], branches), strict=True
            )
        ]

    def fuse(self) -> None:
        """Drop the branches that were not chosen."""
        if self.end_to_end:
            self.cv2 = self.cv3 = self.cv4 = self.cv4_kpts = None  # type: ignore[assignment]
        else:
            self.one2one_cv2 = self.one2one_cv3 = None
            self.one2one_cv4 = self.one2one_cv4_kpts = None

    def _one_to_many(self) -> tuple[_Branches | None, ...]:
        return self.cv2, self.cv3, self.cv4, self.cv4_kpts

    def _one_to_one(self) -> tuple[_Branches | None, ...]:
        return self.one2one_cv2, self.one2one_cv3, self.one2one_cv4, self.one2one_cv4_kpts

    def _positions(self, raw: Tensor, cell: Tensor) -> Tensor:
        return raw + cell + 0.5

    def _distances(self, boxes: Tensor) -> Tensor:
        return boxes if self.num_bins == 1 else super()._distances(boxes)


# --- The published networks -----------------------------------------------------------------------

__all__ = ["SCALES", "Pose26Head", "architecture"]


def architecture(
    size: str,
    *,
    num_classes: int = 1,
    num_keypoints: int = 17,
    keypoint_dimensions: int = 3,
    training_parts: bool = False,
    one_to_one: bool = True,
) -> NetworkDescription:
    """A published network.

    Args:
        size: "n", "s", "m", "l" or "x".
        num_classes: classes of objects.
        num_keypoints: keypoints of each person.
        keypoint_dimensions: 3 for x, y and score, 2 for x and y.
        training_parts: describe also what only training needs.
        one_to_one: describe both kinds of branches, or only one-to-many.
    """
    net, outputs = body(size, yolo26=True)
    widths = [net.widths[index] for index in outputs]
    num_numbers = num_keypoints * keypoint_dimensions
    # The features of keypoints are as wide as keypoints and their training-only spread together.
    points = max(widths[0] // 4, num_keypoints * (keypoint_dimensions + 2))
    parts: dict[str, Node] = {}
    for prefix in ("", "one2one_") if one_to_one else ("",):
        boxes, classes = max(16, widths[0] // 4, 4), max(widths[0], min(num_classes, 100))
        branches = {
            "cv2": [branch(width, boxes, 4) for width in widths],
            "cv3": [class_branch(width, classes, num_classes) for width in widths],
            "cv4": [
                sequential(convolution(width, points, 3), convolution(points, points, 3))
                for width in widths
            ],
            "cv4_kpts": [conv2d(points, num_numbers) for _ in widths],
        }
        if training_parts:
            branches["cv4_sigma"] = [conv2d(points, 2 * num_keypoints) for _ in widths]
        parts.update({prefix + name: numbered("ModuleList", n) for name, n in branches.items()})
    if training_parts:
        parts["flow_model"] = _flow_model()
    settings = {"kpt_shape": [num_keypoints, keypoint_dimensions], "reg_max": 1, "nc": num_classes}
    net.add(Node("Pose26", settings, parts), 0, *outputs)
    return NetworkDescription("yolo26", tuple(net.layers), ())


def _flow_model() -> Node:
    """The normalising flow that training fits to the errors of keypoints."""
    widths = (2, 64, 64, 2)
    layers = [
        Node("Linear", {"in_features": inputs, "out_features": outputs})
        for inputs, outputs in itertools.pairwise(widths)
    ]
    couplings = numbered("ModuleList", [numbered("Sequential", layers)] * 6)
    return Node("RealNVP", {}, {"s": couplings, "t": couplings})
