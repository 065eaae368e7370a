"""Markers: one set for each person, of stable ids, and nobody stays who has left."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from pose_node import COCO17, Skeleton
from pose_node.depth import Poses3D
from pose_node.drawing import TRACKS, UNTRACKED
from pose_node.ros.markers import JOINTS, LABELS, LIMBS, PersonMarkers
from tests.conftest import make_poses
from tests.ros.node_bench import header

pytestmark = pytest.mark.ros


def people(*ids: int, skeleton: Skeleton = COCO17) -> Poses3D:
    """People of these ids, person n standing n + 2 metres away."""
    poses = make_poses(len(ids), num_keypoints=skeleton.num_keypoints)
    points = np.random.default_rng(4).uniform(-0.5, 0.5, poses.keypoints.shape)
    points[:, :, 2] = np.arange(len(ids))[:, np.newaxis] + 2
    found = Poses3D.from_points(points, poses)
    return Poses3D(found.points, found.keypoint_scores, found.scores, np.array(ids, np.int64))


def update(
    markers: PersonMarkers, shown: Poses3D, skeleton: Skeleton = COCO17
) -> dict[tuple[str, int], Marker]:
    array = markers.update(header(), shown, skeleton, lifetime=0.75)
    copy = deserialize_message(serialize_message(array), MarkerArray)  # every field fits
    found = {(marker.ns, marker.id): marker for marker in copy.markers}
    assert len(found) == len(array.markers)
    return found


def xyz(points: list[object]) -> np.ndarray:
    return np.array([(point.x, point.y, point.z) for point in points])  # type: ignore[attr-defined]


def test_each_person_has_limbs_joints_and_a_label() -> None:
    shown = people(3, 8)
    found = update(PersonMarkers(), shown)
    assert set(found) == {(name, number) for name in (LIMBS, JOINTS, LABELS) for number in (3, 8)}
    for (_, number), marker in found.items():
        assert marker.header == header()
        assert marker.action == Marker.ADD
        assert marker.pose.orientation.w == 1.0
        assert (marker.lifetime.sec, marker.lifetime.nanosec) == (0, 750_000_000)
        assert min(marker.scale.x, marker.scale.y, marker.scale.z) > 0
        blue, green, red = (value / 255 for value in TRACKS[number % len(TRACKS)])
        rgba = (marker.color.r, marker.color.g, marker.color.b, marker.color.a)
        np.testing.assert_allclose(rgba, (red, green, blue, 1), atol=1e-6)
    joints, limbs = found[JOINTS, 8], found[LIMBS, 8]
    assert joints.type == Marker.SPHERE_LIST
    np.testing.assert_allclose(xyz(joints.points), shown.points[1])
    assert limbs.type == Marker.LINE_LIST
    ends = [index for edge in COCO17.edges for index in edge]
    np.testing.assert_allclose(xyz(limbs.points), shown.points[1][ends])


def test_the_label_says_who_and_how_far_above_the_head() -> None:
    shown = people(3)
    label = update(PersonMarkers(), shown)[LABELS, 3]
    assert label.type == Marker.TEXT_VIEW_FACING
    distance = float(np.linalg.norm(shown.positions[0]))
    assert label.text == f"#3 {distance:.2f} m"
    assert label.pose.position.y < shown.points[0, :, 1].min() - 0.1  # y is down
    assert label.pose.position.x == pytest.approx(shown.positions[0, 0])


def test_up_is_where_the_frame_says() -> None:
    shown = people(3)
    array = PersonMarkers().update(header(), shown, COCO17, up=(0.0, 0.0, 1.0))
    label = next(marker for marker in array.markers if marker.ns == LABELS)
    assert label.pose.position.z > shown.points[0, :, 2].max() + 0.1
    assert label.pose.position.y == pytest.approx(shown.positions[0, 1])


def test_who_left_is_deleted_once() -> None:
    markers = PersonMarkers()
    update(markers, people(3, 8))
    found = update(markers, people(8))
    for name in (LIMBS, JOINTS, LABELS):
        assert found[name, 3].action == Marker.DELETE
        assert found[name, 8].action == Marker.ADD
    assert {number for _, number in update(markers, people(8))} == {8}
    assert {marker.action for marker in update(markers, people()).values()} == {Marker.DELETE}
    assert update(markers, people()) == {}


def test_unknown_points_are_left_out() -> None:
    shown = people(3, 8)
    shown.points[0, 5:] = np.nan
    shown.points[1] = np.nan
    markers = PersonMarkers()
    found = update(markers, shown)
    assert {number for _, number in found} == {3}
    assert len(found[JOINTS, 3].points) == 5
    inside = [edge for edge in COCO17.edges if max(edge) < 5]
    assert len(found[LIMBS, 3].points) == 2 * len(inside)
    assert np.isfinite(xyz(found[LIMBS, 3].points)).all()


def test_no_empty_list_for_one_lonely_point() -> None:
    markers = PersonMarkers()
    update(markers, people(3))
    shown = people(3)
    shown.points[0, 1:] = np.nan
    found = update(markers, shown)
    assert found[LIMBS, 3].action == Marker.DELETE
    assert len(found[JOINTS, 3].points) == 1


def test_the_untracked_have_ids_that_no_track_has() -> None:
    found = update(PersonMarkers(), people(-1, 0, -1))
    assert {number for _, number in found} == {-1, 0, -3}
    assert found[LABELS, -1].text.endswith(" m")
    assert "#" not in found[LABELS, -1].text
    assert found[JOINTS, -3].color.r == pytest.approx(UNTRACKED[2] / 255)


def test_an_id_larger_than_a_marker_can_have() -> None:
    assert {number for _, number in update(PersonMarkers(), people((1 << 31) + 5))} == {5}


def test_a_skeleton_without_limbs() -> None:
    skeleton = Skeleton.for_keypoints(5)
    found = update(PersonMarkers(), people(3, skeleton=skeleton), skeleton)
    assert set(found) == {(JOINTS, 3), (LABELS, 3)}


def test_clear() -> None:
    markers = PersonMarkers()
    update(markers, people(3))
    (marker,) = markers.clear(Header()).markers
    assert marker.action == Marker.DELETEALL
    assert update(markers, people()) == {}
