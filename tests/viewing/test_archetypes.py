"""People as archetypes of the Rerun SDK."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from pose_node.depth import Poses3D
from pose_node.drawing import TRACKS
from pose_node.poses import COCO17, Poses, Skeleton
from pose_node.viewing import archetypes

pytestmark = pytest.mark.usefixtures("sdk")

TRIO = Skeleton("trio", ("left_hand", "right_hand", "nose"), ((0, 2),), (1, 0, 2), (0.1,) * 3)
POSES = Poses.from_arrays(
    [[1, 2, 30, 20], [5, 6, 7, 8]],
    [0.9, 0.4],
    [[(1, 2, 0.9), (3, 4, 0.49), (5, 6, 0.5)], [(7, 8, 0.1), (np.nan, 4, 0.9), (9, 10, 1.0)]],
    [13, -1],
)


def values(batch: Any) -> list[Any]:
    """What a component of an archetype holds."""
    found: list[Any] = batch.as_arrow_array().to_pylist()
    return found


def test_classes_keep_the_colour_of_a_track() -> None:
    ids = np.array([13, 3, 13 + len(TRACKS), -1, -1], np.int64)
    classes = archetypes.class_ids(ids)
    assert classes.dtype == np.uint16
    assert len(set(classes.tolist())) == len(ids)
    # The last two have the colours of their places.
    assert (classes % len(TRACKS)).tolist() == [3, 3, 3, 3, 4]


def test_no_classes_for_nobody() -> None:
    assert archetypes.class_ids(np.empty(0, np.int64)).shape == (0,)


def test_the_context_has_names_limbs_and_colours_of_each_class() -> None:
    context = values(archetypes.annotation_context(TRIO, 12).context)[0]
    assert [entry["class_id"] for entry in context] == list(range(12))
    description = context[11]["class_description"]
    red, green, blue = TRACKS[1][::-1]
    assert description["info"]["color"] == red << 24 | green << 16 | blue << 8 | 255
    names = [joint["label"] for joint in description["keypoint_annotations"]]
    assert names == ["left_hand", "right_hand", "nose"]
    assert description["keypoint_connections"] == [{"keypoint0": 0, "keypoint1": 2}]


def test_all_limbs_of_the_standard_skeleton() -> None:
    context = values(archetypes.annotation_context(COCO17, 1).context)[0]
    found = context[0]["class_description"]["keypoint_connections"]
    assert [(limb["keypoint0"], limb["keypoint1"]) for limb in found] == list(COCO17.edges)


def test_keypoints_above_the_threshold() -> None:
    points = archetypes.keypoints_archetype(POSES, keypoint_threshold=0.5)
    assert values(points.positions) == [[1, 2], [5, 6], [9, 10]]  # without what is not finite
    assert values(points.keypoint_ids) == [0, 2, 2]
    first, second = archetypes.class_ids(POSES.ids).tolist()
    assert values(points.class_ids) == [first, first, second]


def test_boxes_say_id_and_score() -> None:
    boxes = archetypes.boxes_archetype(POSES)
    assert values(boxes.labels) == ["#13 0.90", "0.40"]
    assert values(boxes.centers)[0] == [15.5, 11]
    assert values(boxes.half_sizes)[0] == [14.5, 9]
    assert values(boxes.class_ids) == archetypes.class_ids(POSES.ids).tolist()


def test_nobody() -> None:
    nobody = Poses.empty(3)
    assert values(archetypes.boxes_archetype(nobody).centers) == []
    assert values(archetypes.keypoints_archetype(nobody, keypoint_threshold=0.5).positions) == []
    assert archetypes.scores_archetypes(nobody) == {}


def test_known_points_in_space() -> None:
    points = np.arange(18, dtype=np.float32).reshape(2, 3, 3)
    points[0, 0] = np.nan
    people = Poses3D.from_points(points, POSES)
    found = archetypes.points_archetype(people, keypoint_threshold=0.5)
    assert values(found.positions) == [[6, 7, 8], [12, 13, 14], [15, 16, 17]]
    assert values(found.keypoint_ids) == [2, 1, 2]


def test_scores_of_tracks_and_of_the_others() -> None:
    found = archetypes.scores_archetypes(POSES)
    assert {name: values(scalars.scalars) for name, scalars in found.items()} == {
        "track_13": [pytest.approx(0.9)],
        "untracked": [pytest.approx(0.4)],
    }
    assert values(archetypes.curve_style("track_13").names) == ["#13"]
    assert archetypes.curve_style("untracked") is None


@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_an_image_keeps_its_colours(order: Any) -> None:
    image = np.full((16, 24, 3), (200, 90, 20), np.uint8)
    encoded = archetypes.image_archetype(image, order, jpeg_quality=95)
    assert values(encoded.media_type) == ["image/jpeg"]
    jpeg = np.array(values(encoded.blob)[0], np.uint8)
    decoded = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    expected = (200, 90, 20) if order == "bgr" else (20, 90, 200)
    assert decoded.shape == (16, 24, 3)
    assert np.abs(decoded.astype(int) - expected).max() <= 4
