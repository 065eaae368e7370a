"""The values refuse wrong shapes and dtypes at the door, and N = 0 keeps every shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pose_node import COCO17, Frame, Poses, Skeleton
from tests.conftest import make_frame


def test_nobody_keeps_all_shapes() -> None:
    poses = Poses.empty(21)
    assert len(poses) == 0
    assert poses.num_keypoints == 21
    assert poses.boxes_xyxy.shape == (0, 4)
    assert poses.scores.shape == (0,)
    assert poses.keypoints.shape == (0, 21, 3)
    assert poses.ids.shape == (0,)


def test_from_arrays_sets_dtypes_and_no_ids() -> None:
    poses = Poses.from_arrays([[0, 1, 2, 3]], [0.5], np.zeros((1, 17, 3)))
    assert poses.boxes_xyxy.dtype == poses.scores.dtype == poses.keypoints.dtype == np.float32
    assert poses.ids.tolist() == [-1]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"boxes_xyxy": np.zeros((2, 5), np.float32)}, "same N"),
        ({"scores": np.zeros(3, np.float32)}, "same N"),
        ({"keypoints": np.zeros((2, 17, 2), np.float32)}, "same N"),
        ({"ids": np.zeros(1, np.int64)}, "same N"),
        ({"boxes_xyxy": np.zeros((2, 4))}, r"Poses.boxes_xyxy .* float32, got .* float64"),
        ({"keypoints": np.zeros((2, 51), np.float32)}, r"\(N, K, 3\).*got shape \(2, 51\)"),
        ({"ids": np.zeros(2, np.int32)}, "int64"),
    ],
)
def test_poses_of_wrong_shape_are_refused(change: dict[str, Any], text: str) -> None:
    fields = {
        "boxes_xyxy": np.zeros((2, 4), np.float32),
        "scores": np.zeros(2, np.float32),
        "keypoints": np.zeros((2, 17, 3), np.float32),
        "ids": np.zeros(2, np.int64),
    }
    with pytest.raises(ValueError, match=text):
        Poses(**{**fields, **change})


def test_a_list_is_no_array() -> None:
    with pytest.raises(TypeError, match=r"Poses\.scores must be a numpy array .* got list"):
        Poses(
            np.zeros((0, 4), np.float32),
            [],  # type: ignore[arg-type]
            np.zeros((0, 17, 3), np.float32),
            np.zeros(0, np.int64),
        )


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
    ],
)
def test_a_frame_needs_an_image(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"Frame.image must have shape \(H, W, 3\)"):
        Frame("", "camera", 0, image)


def test_a_frame_needs_a_known_channel_order() -> None:
    with pytest.raises(ValueError, match="'bgr' or 'rgb', got 'gbr'"):
        Frame("", "camera", 0, np.zeros((4, 4, 3), np.uint8), "gbr")  # type: ignore[arg-type]


def test_coco17_is_the_published_skeleton() -> None:
    assert COCO17.num_keypoints == 17
    assert COCO17.keypoint_names[9] == "left_wrist"
    assert len(COCO17.edges) == 19
    for index, other in enumerate(COCO17.flip):
        mirrored = COCO17.keypoint_names[index].replace("left", "?").replace("right", "left")
        assert COCO17.keypoint_names[other] == mirrored.replace("?", "right")
    assert sum(COCO17.sigmas) == pytest.approx(1.138, abs=1e-9)


def test_any_number_of_keypoints_has_a_skeleton() -> None:
    skeleton = Skeleton.for_keypoints(21)
    assert skeleton.num_keypoints == 21
    assert skeleton.sigmas[0] == pytest.approx(1 / 21)
    assert Skeleton.for_keypoints(17) is COCO17


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"keypoint_names": ()}, "no keypoints"),
        ({"sigmas": (0.1,)}, "as many flip indices and sigmas, got 2 and 1"),
        ({"edges": ((0, 2),)}, r"names keypoints \[2\]"),
        ({"flip": (1, 1)}, "flip must pair"),
        ({"sigmas": (0.1, 0.0)}, "sigmas must be positive"),
    ],
)
def test_a_skeleton_that_contradicts_itself_is_refused(change: dict[str, Any], text: str) -> None:
    fields: dict[str, Any] = {
        "name": "pair",
        "keypoint_names": ("a", "b"),
        "edges": ((0, 1),),
        "flip": (1, 0),
        "sigmas": (0.1, 0.1),
    }
    with pytest.raises(ValueError, match=text):
        Skeleton(**{**fields, **change})


def test_a_frame_has_the_size_of_the_original_image() -> None:
    frame = make_frame(width=64, height=48)
    assert (frame.width, frame.height) == (64, 48)
    reduced = Frame("", "", 0, np.zeros((3, 5, 3), np.uint8), "bgr", 2, (9, 6))
    assert (reduced.width, reduced.height) == (9, 6)


@pytest.mark.parametrize(
    ("reduction", "original"), [(2, None), (2, (12, 6)), (2, (10, 8)), (4, (10, 6)), (1, (10, 6))]
)
def test_a_reduction_that_is_not_that_of_the_image(
    reduction: int, original: tuple[int, int] | None
) -> None:
    with pytest.raises(ValueError, match=r"reduced . times has width and height .*, got \(5, 3\)"):
        Frame("", "", 0, np.zeros((3, 5, 3), np.uint8), "bgr", reduction, original)


def test_people_of_a_reduced_image_in_the_original() -> None:
    frame = Frame("", "", 0, np.zeros((3, 5, 3), np.uint8), "bgr", 2, (9, 6))
    poses = Poses.from_arrays([[0, 1, 5, 2.5]], [0.5], [[[-1, 4, 0.25], [2, 1.5, 1]]], [7])
    original = poses.in_original(frame)
    assert original.boxes_xyxy.tolist() == [[0, 2, 9, 5]]
    assert original.keypoints.tolist() == [[[-2, 8, 0.25], [4, 3, 1]]]
    assert (original.scores.tolist(), original.ids.tolist()) == ([0.5], [7])
    assert poses.in_original(make_frame()) is poses
    assert Poses.empty(17).in_original(frame).keypoints.shape == (0, 17, 3)
