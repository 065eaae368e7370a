"""The values that travel through the pipeline: a camera frame, the people in it, their skeleton.

Coordinates are pixels of the ORIGINAL image, sub-pixel; (0, 0) is the top-left corner of the
top-left pixel, x to the right, y down. This module needs numpy and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

ChannelOrder = Literal["bgr", "rgb"]


def check_array(name: str, array: object, shape: str, ndim: int, dtype: npt.DTypeLike) -> None:
    """Refuse anything but an array of this rank and dtype; `shape` is only for the error text."""
    if not isinstance(array, np.ndarray):
        raise TypeError(
            f"{name} must be a numpy array of shape {shape}, got {type(array).__name__}"
        )
    if array.ndim != ndim or array.dtype != np.dtype(dtype):
        raise ValueError(
            f"{name} must have shape {shape} and dtype {np.dtype(dtype)}, "
            f"got shape {array.shape} and dtype {array.dtype}"
        )


@dataclass(frozen=True)
class Frame:
    """One image of one camera.

    Attributes:
        camera: key of the camera, "" for the only one.
        frame_id: coordinate frame of the camera (the optical frame, REP-103).
        stamp_ns: capture time in nanoseconds, copied from the source, never the time of arrival.
        image: (H, W, 3) uint8, H and W at least 1; may be a read-only view with padded rows.
        channel_order: "bgr" or "rgb".
        reduction: how many times smaller than the original `image` was decoded, in both directions;
            whatever else is in pixels is in those of the original.
        original_size: width and height of the original where it was decoded smaller, else None.
    """

    camera: str
    frame_id: str
    stamp_ns: int
    image: np.ndarray
    channel_order: ChannelOrder = "bgr"
    reduction: int = 1
    original_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_array("Frame.image", self.image, "(H, W, 3)", 3, np.uint8)
        if self.image.shape[2] != 3 or 0 in self.image.shape:
            raise ValueError(f"Frame.image must have shape (H, W, 3), got {self.image.shape}")
        if self.channel_order not in ("bgr", "rgb"):
            raise ValueError(
                f"Frame.channel_order must be 'bgr' or 'rgb', got {self.channel_order!r}"
            )
        height, width = self.image.shape[:2]
        expected = (-(-self.width // self.reduction), -(-self.height // self.reduction))
        if (width, height) != expected:
            raise ValueError(
                f"an image of {self.width}x{self.height} reduced {self.reduction} times has width "
                f"and height {expected}, got {(width, height)}"
            )

    @property
    def width(self) -> int:
        """Pixels in a row of the original image."""
        return self.original_size[0] if self.original_size else int(self.image.shape[1])

    @property
    def height(self) -> int:
        """Rows of the original image."""
        return self.original_size[1] if self.original_size else int(self.image.shape[0])


@dataclass(frozen=True)
class Poses:
    """The people in one image, highest score first. N = 0 keeps all shapes.

    Attributes:
        boxes_xyxy: (N, 4) float32, left, top, right, bottom, in pixels.
        scores: (N,) float32, 0 to 1.
        keypoints: (N, K, 3) float32, x and y in pixels (may lie outside the image), score 0 to 1.
        ids: (N,) int64, the track id of each person, -1 for none.
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    keypoints: np.ndarray
    ids: np.ndarray

    def __post_init__(self) -> None:
        check_array("Poses.boxes_xyxy", self.boxes_xyxy, "(N, 4)", 2, np.float32)
        check_array("Poses.scores", self.scores, "(N,)", 1, np.float32)
        check_array("Poses.keypoints", self.keypoints, "(N, K, 3)", 3, np.float32)
        check_array("Poses.ids", self.ids, "(N,)", 1, np.int64)
        count = len(self.boxes_xyxy)
        shapes = (self.boxes_xyxy.shape, self.scores.shape, self.keypoints.shape, self.ids.shape)
        if (
            self.boxes_xyxy.shape[1] != 4
            or self.keypoints.shape[2] != 3
            or not (len(self.scores) == len(self.keypoints) == len(self.ids) == count)
        ):
            raise ValueError(
                "Poses must have boxes_xyxy (N, 4), scores (N,), keypoints (N, K, 3) and ids (N,) "
                f"with the same N, got {', '.join(map(str, shapes))}"
            )

    def __len__(self) -> int:
        """Number of people, N."""
        return len(self.scores)

    @property
    def num_keypoints(self) -> int:
        """Number of keypoints of each person, K, also when nobody is there."""
        return int(self.keypoints.shape[1])

    def in_original(self, frame: Frame) -> Poses:
        """People in pixels of a frame's `image`, in those of the original."""
        if frame.reduction == 1:
            return self
        limit = np.array((frame.width, frame.height) * 2, np.float32)
        keypoints = self.keypoints * np.array((frame.reduction, frame.reduction, 1), np.float32)
        boxes = np.minimum(self.boxes_xyxy * np.float32(frame.reduction), limit)
        return Poses(boxes, self.scores, keypoints, self.ids)

    @classmethod
    def empty(cls, num_keypoints: int) -> Poses:
        """Nobody: N = 0, with the shapes of a skeleton of `num_keypoints` keypoints."""
        return cls.from_arrays(np.empty((0, 4)), np.empty(0), np.empty((0, num_keypoints, 3)))

    @classmethod
    def from_arrays(
        cls,
        boxes_xyxy: npt.ArrayLike,
        scores: npt.ArrayLike,
        keypoints: npt.ArrayLike,
        ids: npt.ArrayLike | None = None,
    ) -> Poses:
        """Build from anything numpy can convert; ids default to -1."""
        score_array = np.asarray(scores, np.float32)
        id_array = np.full(score_array.shape, -1, np.int64) if ids is None else np.asarray(ids)
        return cls(
            np.asarray(boxes_xyxy, np.float32),
            score_array,
            np.asarray(keypoints, np.float32),
            id_array.astype(np.int64, copy=False),
        )


@dataclass(frozen=True)
class Skeleton:
    """Names and meaning of the K keypoints of a model.

    Attributes:
        name: what messages call it, for example "coco17".
        keypoint_names: K names, in the model's order.
        edges: pairs of keypoint indices that are joined by a limb.
        flip: K indices: the left/right counterpart of each keypoint, itself if it has none.
        sigmas: K OKS falloffs in the sense of COCO (k_i = 2 sigma_i), for evaluation and tracking.
    """

    name: str
    keypoint_names: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    flip: tuple[int, ...]
    sigmas: tuple[float, ...]

    def __post_init__(self) -> None:
        count = len(self.keypoint_names)
        if count == 0:
            raise ValueError(f"skeleton {self.name!r} has no keypoints, expected at least one")
        if len(self.flip) != count or len(self.sigmas) != count:
            raise ValueError(
                f"skeleton {self.name!r} has {count} keypoint names, so it needs as many flip "
                f"indices and sigmas, got {len(self.flip)} and {len(self.sigmas)}"
            )
        indices = [*self.flip, *(index for edge in self.edges for index in edge)]
        wrong = sorted({index for index in indices if not 0 <= index < count})
        if wrong:
            raise ValueError(
                f"skeleton {self.name!r} names keypoints {wrong} in edges or flip, "
                f"expected 0 to {count - 1}"
            )
        if any(self.flip[self.flip[i]] != i for i in range(count)):
            raise ValueError(
                f"skeleton {self.name!r}: flip must pair keypoints with each other, got {self.flip}"
            )
        if not all(sigma > 0 for sigma in self.sigmas):
            raise ValueError(f"skeleton {self.name!r}: sigmas must be positive, got {self.sigmas}")

    @property
    def num_keypoints(self) -> int:
        """Number of keypoints, K."""
        return len(self.keypoint_names)

    @classmethod
    def for_keypoints(cls, num_keypoints: int) -> Skeleton:
        """The built-in skeleton with so many keypoints, or one with numbered names and no edges.

        The sigmas of a numbered skeleton are 1/K, as the YOLOv8 trainer takes them.
        """
        if num_keypoints == COCO17.num_keypoints:
            return COCO17
        return cls(
            name=f"keypoints{num_keypoints}",
            keypoint_names=tuple(f"keypoint_{index}" for index in range(num_keypoints)),
            edges=(),
            flip=tuple(range(num_keypoints)),
            sigmas=(1 / max(num_keypoints, 1),) * num_keypoints,
        )


COCO17 = Skeleton(
    name="coco17",
    keypoint_names=(
        "nose",
        "left_eye",
        "right_eye",
        "left_ear",
        "right_ear",
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
    ),
    edges=(
        *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7)),
        *((6, 8), (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
    ),
    flip=(0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15),
    sigmas=(
        *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072),
        *(0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
    ),
)
"""The 17 keypoints of the COCO person dataset, with its limbs and OKS sigmas."""
