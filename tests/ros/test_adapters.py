"""Messages of other packages, by stand-ins with the same fields: see foreign_messages.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from pose_node import COCO17, Poses, Skeleton
from pose_node.depth import Poses3D
from pose_node.drawing import TRACKS
from pose_node.ros.adapters import ADAPTERS, Adapters, check_adapters
from pose_node.ros.adapters.foxglove import to_annotations
from pose_node.ros.adapters.frames import to_transforms
from pose_node.ros.adapters.hri import Bodies, body_id, to_ids_list, to_region, to_skeleton_2d
from pose_node.ros.adapters.vision import to_detections
from tests.conftest import make_frame, make_poses
from tests.ros.foreign_messages import install
from tests.ros.node_bench import header

pytestmark = pytest.mark.ros

SIZE = (200, 100)


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return install(monkeypatch, *ADAPTERS.values())


def people(*ids: int) -> Poses:
    return replace(make_poses(len(ids)), ids=np.array(ids, np.int64))


# Which ones


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    install(monkeypatch, *(package for package in ADAPTERS.values() if package != ADAPTERS[name]))
    check_adapters([other for other in ADAPTERS if other != name])
    with pytest.raises(ValueError, match=f"'{name}' needs the package {ADAPTERS[name]}"):
        check_adapters([name])


def test_an_unknown_adapter(packages: dict[str, Any]) -> None:
    check_adapters([])
    check_adapters(list(ADAPTERS))
    with pytest.raises(ValueError, match="'opencv' is not known, expected vision_msgs, hri_msgs"):
        check_adapters(["tf", "opencv"])


def test_bodies_of_several_cameras(packages: dict[str, Any]) -> None:
    check_adapters(["hri_msgs"], ["front"])
    check_adapters(["vision_msgs", "tf"], ["front", "rear"])
    with pytest.raises(ValueError, match="'hri_msgs' takes one camera"):
        check_adapters(["hri_msgs"], ["front", "rear"])


# One message each


def test_vision_msgs(packages: dict[str, Any]) -> None:
    given = people(7, -1)
    message = to_detections(header(), given)
    assert message.header == header()
    assert [detection.id for detection in message.detections] == ["7", ""]
    for detection, box, score in zip(
        message.detections, given.boxes_xyxy, given.scores, strict=True
    ):
        assert detection.header == header()
        (result,) = detection.results
        assert result.hypothesis.class_id == "person"
        assert result.hypothesis.score == pytest.approx(score)
        centre, size = (
            detection.bbox.center.position,
            (detection.bbox.size_x, detection.bbox.size_y),
        )
        middle, half = np.array([centre.x, centre.y]), np.array(size) / 2
        np.testing.assert_allclose(middle - half, box[:2], rtol=1e-6)
        np.testing.assert_allclose(middle + half, box[2:], rtol=1e-6)
    assert to_detections(header(), Poses.empty(17)).detections == []


def test_foxglove_msgs(packages: dict[str, Any]) -> None:
    given = people(7, -1)
    given.keypoints[0, :, 2] = 0.9
    given.keypoints[1, :, 2] = 0.2
    message = to_annotations(header(), given, COCO17)
    assert message.timestamp == header().stamp
    kinds = packages["foxglove_msgs"].PointsAnnotation
    expected = [kinds.LINE_LOOP, kinds.LINE_LIST, kinds.POINTS, kinds.LINE_LOOP]
    assert [shape.type for shape in message.points] == expected
    box, limbs, joints, _ = message.points
    left, top, right, bottom = given.boxes_xyxy[0]
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    np.testing.assert_allclose([(point.x, point.y) for point in box.points], corners)
    ends = [index for edge in COCO17.edges for index in edge]
    np.testing.assert_allclose(
        [(point.x, point.y) for point in limbs.points], given.keypoints[0, ends, :2]
    )
    np.testing.assert_allclose(
        [(point.x, point.y) for point in joints.points], given.keypoints[0, :, :2]
    )
    color = box.outline_color
    np.testing.assert_allclose((color.b, color.g, color.r), np.array(TRACKS[7]) / 255)
    texts = [text.text for text in message.texts]
    assert texts == [f"#7 {given.scores[0]:.2f}", f"{given.scores[1]:.2f}"]


def test_foxglove_msgs_without_a_common_timestamp(
    packages: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As they were before 2026.
    whole = packages["foxglove_msgs"].ImageAnnotations

    class Older:
        def __init__(self) -> None:
            self.circles: list[Any] = []
            self.points: list[Any] = []
            self.texts: list[Any] = []

    monkeypatch.setattr(packages["foxglove_msgs"], "ImageAnnotations", Older)
    message = to_annotations(header(), people(7), COCO17)
    assert not hasattr(message, "timestamp")
    assert message.points[0].timestamp == message.texts[0].timestamp == header().stamp
    assert hasattr(whole(), "timestamp")


def test_hri_msgs_skeleton_goes_by_names(packages: dict[str, Any]) -> None:
    given = people(7)
    message = to_skeleton_2d(header(), SIZE, given, 0, COCO17)
    kind = packages["hri_msgs"].Skeleton2D
    assert message.header == header()
    assert len(message.skeleton) == 18
    for name, (x, y, score) in zip(COCO17.keypoint_names, given.keypoints[0], strict=True):
        point = message.skeleton[getattr(kind, name.upper())]
        np.testing.assert_allclose((point.x, point.y, point.c), (x / 200, y / 100, score))
    neck, (left, right) = message.skeleton[kind.NECK], given.keypoints[0, 5:7]
    expected = (*(left[:2] + right[:2]) / 2 / SIZE, min(left[2], right[2]))
    np.testing.assert_allclose((neck.x, neck.y, neck.c), expected, rtol=1e-6)


def test_hri_msgs_knows_no_place_outside_the_image(packages: dict[str, Any]) -> None:
    given = people(7)
    given.keypoints[0, 0, :2] = (-1, 50)
    given.keypoints[0, 1, :2] = (200.5, 50)
    given.keypoints[0, 2, :2] = (np.nan, 50)
    given.boxes_xyxy[0] = (-5, 10, 300, 50)
    message = to_skeleton_2d(header(), SIZE, given, 0, COCO17)
    kind = packages["hri_msgs"].Skeleton2D
    for index in (kind.NOSE, kind.LEFT_EYE, kind.RIGHT_EYE):
        point = message.skeleton[index]
        assert (point.x, point.y, point.c) == (0, 0, 0)
    region = to_region(header(), SIZE, given, 0)
    np.testing.assert_allclose(
        (region.xmin, region.ymin, region.xmax, region.ymax), (0, 0.1, 1, 0.5)
    )
    assert region.c == pytest.approx(given.scores[0])
    given.boxes_xyxy[0, 0] = np.nan
    region = to_region(header(), SIZE, given, 0)
    assert (region.xmin, region.xmax) == (0, 0)


def test_hri_msgs_of_a_skeleton_of_other_points(packages: dict[str, Any]) -> None:
    message = to_skeleton_2d(
        header(), SIZE, make_poses(1, num_keypoints=2), 0, Skeleton.for_keypoints(2)
    )
    assert {point.c for point in message.skeleton} == {0}


def test_hri_msgs_ids(packages: dict[str, Any]) -> None:
    assert body_id("", 7) == "person7"
    assert body_id("front/left-2", 7) == "front_left_2_person7"
    message = to_ids_list(header(), ["person7"])
    assert (message.header, message.ids) == (header(), ["person7"])


def test_frames(packages: dict[str, Any]) -> None:
    given = Poses3D.from_points(np.full((3, 17, 3), np.nan), people(7, -1, 9))
    given.points[:2] = (0.5, -0.25, 2)
    message = to_transforms(header(), given, "front")
    (transform,) = message.transforms  # -1 has no name, 9 no place
    assert transform.header == header()
    assert transform.child_frame_id == "front_person7"
    translation, rotation = transform.transform.translation, transform.transform.rotation
    assert (translation.x, translation.y, translation.z) == (0.5, -0.25, 2)
    assert (rotation.x, rotation.y, rotation.z, rotation.w) == (0, 0, 0, 1)


# All together


class FakePublisher:
    def __init__(self, kind: type, topic: str) -> None:
        self.kind, self.topic, self.listeners = kind, topic, 1
        self.messages: list[Any] = []

    def publish(self, message: Any) -> None:
        assert isinstance(message, self.kind)
        self.messages.append(message)

    def get_subscription_count(self) -> int:
        return self.listeners


class FakeNode:
    """Makes publishers without DDS, which takes no stand-ins."""

    def __init__(self) -> None:
        self.live: dict[str, FakePublisher] = {}

    def create_publisher(self, kind: type, topic: str, qos: object) -> FakePublisher:
        self.live[topic] = FakePublisher(kind, topic)
        return self.live[topic]

    def destroy_publisher(self, publisher: FakePublisher) -> None:
        del self.live[publisher.topic]

    def sent(self) -> dict[str, int]:
        return {topic: len(publisher.messages) for topic, publisher in self.live.items()}


def publish(adapters: Adapters, given: Poses, *, in_space: bool = True) -> None:
    space = (header(), Poses3D.from_points(np.ones((len(given), 17, 3)), given))
    adapters.publish(header(), make_frame(), given, COCO17, space if in_space else None)


def test_publishes_what_is_asked_for(packages: dict[str, Any]) -> None:
    node: Any = FakeNode()
    adapters = Adapters(node, "front", ["vision_msgs", "foxglove_msgs", "tf"])
    publish(adapters, people(7))
    assert node.sent() == {"front/detections": 1, "front/image_annotations": 1, "/tf": 1}
    publish(adapters, people(7), in_space=False)
    assert node.sent() == {"front/detections": 2, "front/image_annotations": 2, "/tf": 1}
    adapters.destroy()
    assert node.live == {}


def test_makes_no_message_for_nobody(packages: dict[str, Any]) -> None:
    node: Any = FakeNode()
    adapters = Adapters(node, "", ["vision_msgs", "tf"])
    assert adapters.wants_space
    for publisher in node.live.values():
        publisher.listeners = 0
    publish(adapters, people(7))
    assert node.sent() == {"detections": 0, "/tf": 0}
    assert not adapters.wants_space
    assert not Adapters(node, "", ["vision_msgs"]).wants_space


def test_bodies_come_and_go(packages: dict[str, Any]) -> None:
    node: Any = FakeNode()
    seconds = [0.0]
    bodies = Bodies(node, "", lambda: seconds[0])

    def publish(given: Poses) -> None:
        bodies.publish(header(), (64, 48), given, COCO17)

    publish(people(7, -1, 9))
    topics = {f"person{track}/{part}" for track in (7, 9) for part in ("skeleton2d", "roi")}
    assert set(node.live) == {f"/humans/bodies/{name}" for name in ("tracked", *topics)}
    assert node.live["/humans/bodies/tracked"].messages[-1].ids == ["person7", "person9"]
    publish(people(9))
    assert node.live["/humans/bodies/tracked"].messages[-1].ids == ["person9"]
    assert len(node.live["/humans/bodies/person9/skeleton2d"].messages) == 2
    seconds[0] = 9.9  # who was missed for a while goes on where they were
    publish(people(7))
    assert len(node.live["/humans/bodies/person7/skeleton2d"].messages) == 2
    seconds[0] = 10.1
    publish(people())
    assert {topic.split("/")[3] for topic in node.live} == {"tracked", "person7"}
    seconds[0] = 20.0
    publish(people())
    assert set(node.live) == {"/humans/bodies/tracked"}
    publish(people(7))
    bodies.destroy()
    assert node.live == {}


def test_bodies_are_published_with_the_others(packages: dict[str, Any]) -> None:
    node: Any = FakeNode()
    adapters = Adapters(node, "", ["hri_msgs"])
    publish(adapters, people(7))
    assert node.live["/humans/bodies/tracked"].messages[-1].ids == ["person7"]
    adapters.destroy()
    assert node.live == {}


def test_refuses_to_start_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    node: Any = FakeNode()
    with pytest.raises(ValueError, match=r"install ros-.*-vision-msgs"):
        Adapters(node, "", ["vision_msgs"])
