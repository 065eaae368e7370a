"""Messages to values and back, nothing lost."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from builtin_interfaces.msg import Time
from pose_node.msg import PersonPose3DArray, PersonPoseArray, SkeletonInfo
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header

from pose_node import COCO17, Poses, Skeleton, imaging
from pose_node.camera_model import CameraModel
from pose_node.depth import Poses3D
from pose_node.errors import CalibrationError
from pose_node.ros import messages
from pose_node.skeletons import load_skeleton
from tests.conftest import make_poses

pytestmark = pytest.mark.ros

LARGEST = 2**31 - 1


@pytest.fixture
def header() -> Header:
    return Header(stamp=Time(sec=1_700_000_000, nanosec=999_999_999), frame_id="kamera_böse/光学")


def over_the_wire(message: PersonPoseArray) -> PersonPoseArray:
    received = deserialize_message(serialize_message(message), PersonPoseArray)
    assert isinstance(received, PersonPoseArray)
    return received


@pytest.mark.parametrize(("count", "num_keypoints"), [(1, 17), (3, 17), (2, 5), (1, 1), (100, 133)])
def test_people_there_and_back(header: Header, count: int, num_keypoints: int) -> None:
    poses = make_poses(count, num_keypoints=num_keypoints)
    message = messages.to_pose_array(header, poses, width=640, height=480, skeleton="any")
    assert message.header is header
    received = over_the_wire(message)
    assert received.header == header
    assert (received.image_width, received.image_height, received.skeleton) == (640, 480, "any")
    again = messages.to_poses(received)
    np.testing.assert_array_equal(again.boxes_xyxy, poses.boxes_xyxy)
    np.testing.assert_array_equal(again.scores, poses.scores)
    np.testing.assert_array_equal(again.keypoints, poses.keypoints)
    np.testing.assert_array_equal(again.ids, poses.ids)


@pytest.mark.parametrize("num_keypoints", [17, 5])
def test_nobody(header: Header, num_keypoints: int) -> None:
    message = messages.to_pose_array(
        header, Poses.empty(num_keypoints), width=640, height=480, skeleton="any"
    )
    received = over_the_wire(message)
    assert list(received.people) == []
    assert received.header == header
    again = messages.to_poses(received, num_keypoints)
    assert again.keypoints.shape == (0, num_keypoints, 3)
    assert again.boxes_xyxy.shape == (0, 4)


def test_extreme_values_travel(header: Header) -> None:
    poses = Poses.from_arrays(
        [[0, -1e30, 3e38, np.inf]],
        [0.0],
        [[[np.nan, -np.inf, 0], [-1e6, 1e6, 1]]],
        [LARGEST],
    )
    message = messages.to_pose_array(header, poses, width=LARGEST, height=1, skeleton="keypoints2")
    again = messages.to_poses(over_the_wire(message))
    np.testing.assert_array_equal(again.boxes_xyxy, poses.boxes_xyxy)
    np.testing.assert_array_equal(again.keypoints, poses.keypoints)
    assert again.ids.tolist() == [LARGEST]


def test_skeleton() -> None:
    message = messages.to_skeleton_info(COCO17, Time(sec=7))
    received = deserialize_message(serialize_message(message), SkeletonInfo)
    assert received.header.stamp == Time(sec=7)
    assert received.name == "coco17"
    assert tuple(received.keypoint_names) == COCO17.keypoint_names
    pairs = tuple(zip(received.edges[::2], received.edges[1::2], strict=True))
    assert pairs == COCO17.edges
    assert tuple(received.flip) == COCO17.flip


def test_skeleton_without_limbs() -> None:
    message = messages.to_skeleton_info(Skeleton.for_keypoints(3), Time())
    assert list(message.edges) == []
    assert list(message.flip) == [0, 1, 2]


def test_skeleton_of_a_hand() -> None:
    hand = load_skeleton(Path(__file__).parents[2] / "config/skeletons/hand21.yaml")
    message = messages.to_skeleton_info(hand, Time())
    received = deserialize_message(serialize_message(message), SkeletonInfo)
    assert tuple(received.keypoint_names) == hand.keypoint_names
    assert len(received.edges) == 40
    assert list(received.flip) == list(range(21))


def test_skeleton_there_and_back() -> None:
    received = messages.from_skeleton_info(messages.to_skeleton_info(COCO17, Time()))
    assert dataclasses.replace(received, sigmas=COCO17.sigmas) == COCO17
    assert received.sigmas == (1 / 17,) * 17


@pytest.mark.parametrize("change", [{"edges": [1, 2, 3]}, {"flip": [0]}, {"edges": [0, 99]}])
def test_skeletons_that_contradict_themselves(change: dict[str, list[int]]) -> None:
    message = messages.to_skeleton_info(COCO17, Time())
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ValueError, match=r"flip|edges"):
        messages.from_skeleton_info(message)


def test_stamp_to_the_nanosecond(header: Header) -> None:
    assert messages.to_stamp_ns(header) == 1_700_000_000_999_999_999
    assert messages.to_stamp_ns(Header()) == 0


def test_image_message_to_image_without_a_copy() -> None:
    message = Image(
        width=3, height=2, encoding="mono16", step=8, is_bigendian=1, data=bytes(range(16))
    )
    image = messages.from_image(message)
    assert (image.width, image.height, image.step, image.encoding) == (3, 2, 8, "mono16")
    assert image.is_bigendian is True
    assert image.data is message.data
    assert bytes(memoryview(image.data)) == bytes(range(16))


def test_compressed_message_to_image_without_a_copy() -> None:
    message = CompressedImage(format="jpeg", data=b"\xff\xd8\xff")
    image = messages.from_compressed_image(message)
    assert image.format == "jpeg"
    assert image.data is message.data


def test_image_to_message(header: Header) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    message = messages.to_image(header, picture)
    assert message.header is header
    assert (message.width, message.height, message.step) == (7, 5, 21)
    assert (message.encoding, message.is_bigendian) == ("bgr8", 0)
    assert bytes(message.data) == picture.tobytes()
    array, order = imaging.to_array(messages.from_image(message))
    assert order == "bgr"
    np.testing.assert_array_equal(array, picture)


@pytest.mark.parametrize("view", [np.s_[:, 1:5], np.s_[::2], np.s_[:, :, ::-1], np.s_[::-1]])
def test_image_whose_rows_do_not_lie_together(header: Header, view: tuple[slice, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)[view]
    message = messages.to_image(header, picture)
    assert message.step == 3 * message.width
    assert bytes(message.data) == picture.tobytes()


def test_jpeg_to_message(header: Header) -> None:
    jpeg = imaging.encode_jpeg(np.full((8, 8, 3), 90, np.uint8))
    message = messages.to_compressed_image(header, jpeg)
    assert message.header is header
    assert message.format == "bgr8; jpeg compressed bgr8"
    assert bytes(message.data) == jpeg
    array, _ = imaging.to_array(messages.from_compressed_image(message))
    assert array.shape == (8, 8, 3)


def test_bytes_of_messages(header: Header) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    poses = make_poses(3)
    size = {"width": 640, "height": 480, "skeleton": "coco17"}
    jpeg = imaging.encode_jpeg(picture)
    pairs = [
        (messages.serialize_image(header, picture), messages.to_image(header, picture)),
        (
            messages.serialize_compressed_image(header, jpeg),
            messages.to_compressed_image(header, jpeg),
        ),
        (
            messages.serialize_pose_array(header, poses, **size),
            messages.to_pose_array(header, poses, **size),
        ),
    ]
    for data, message in pairs:
        assert deserialize_message(data, type(message)) == message


def test_bytes_to_header_and_image(header: Header) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    received, raw = messages.read_image(serialize_message(messages.to_image(header, picture)))
    assert received == header
    np.testing.assert_array_equal(imaging.to_array(raw)[0], picture)
    message = messages.to_compressed_image(header, b"content")
    received, compressed = messages.read_compressed_image(serialize_message(message))
    assert received == header
    assert compressed.format == message.format
    assert bytes(memoryview(compressed.data)) == b"content"


# In space


def test_people_in_space(header: Header) -> None:
    poses = make_poses(3)
    people = Poses3D.from_points(np.random.default_rng(1).normal(size=(3, 17, 3)), poses)
    people.points[0, 4] = np.nan
    people.points[2] = np.nan
    message = messages.to_pose_array_3d(header, people, skeleton="any")
    assert message.header is header
    received = deserialize_message(serialize_message(message), PersonPose3DArray)
    assert received.header == header
    assert received.skeleton == "any"
    assert [person.track_id for person in received.people] == poses.ids.tolist()
    for person, points, score, scores, position in zip(
        received.people,
        people.points,
        people.scores,
        people.keypoint_scores,
        people.positions,
        strict=True,
    ):
        found = [(point.x, point.y, point.z) for point in person.keypoints]
        np.testing.assert_array_equal(np.float32(found), points)
        np.testing.assert_array_equal(np.float32(person.keypoint_scores), scores)
        assert np.float32(person.score) == score
        at = (person.position.x, person.position.y, person.position.z)
        np.testing.assert_array_equal(np.float32(at), position)
    back = messages.to_poses_3d(received)
    for name in ("points", "keypoint_scores", "scores", "ids"):
        np.testing.assert_array_equal(getattr(back, name), getattr(people, name))


def test_nobody_in_space(header: Header) -> None:
    people = Poses3D.unknown(Poses.empty(17))
    message = messages.to_pose_array_3d(header, people, skeleton="any")
    received = deserialize_message(serialize_message(message), PersonPose3DArray)
    assert list(received.people) == []
    assert messages.to_poses_3d(received, 5).points.shape == (0, 5, 3)


INFO = CameraInfo(
    width=640,
    height=480,
    distortion_model="plumb_bob",
    d=[0.1, -0.2, 0.001, 0.002, 0.05],
    k=[500.0, 0.0, 320.0, 0.0, 505.0, 241.0, 0.0, 0.0, 1.0],
    p=[490.0, 0.0, 318.0, 0.0, 0.0, 495.0, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0],
    binning_x=2,
    binning_y=3,
    roi=RegionOfInterest(x_offset=10, y_offset=20, width=400, height=300),
)


def test_camera_model() -> None:
    place = {"binning": (2, 3), "roi": (10, 20, 400, 300)}
    assert messages.to_camera_model(INFO) == CameraModel.from_calibration(
        width=640,
        height=480,
        k=(500.0, 0.0, 320.0, 0.0, 505.0, 241.0, 0.0, 0.0, 1.0),
        d=(0.1, -0.2, 0.001, 0.002, 0.05),
        distortion_model="plumb_bob",
        **place,
    )
    assert messages.to_camera_model(INFO, rectified=True) == CameraModel.from_calibration(
        width=640,
        height=480,
        k=(490.0, 0.0, 318.0, 0.0, 495.0, 240.0, 0.0, 0.0, 1.0),
        **place,
    )


@pytest.mark.parametrize("rectified", [False, True])
def test_camera_model_of_no_calibration(rectified: bool) -> None:
    with pytest.raises(CalibrationError, match="not calibrated"):
        messages.to_camera_model(CameraInfo(width=640, height=480), rectified=rectified)
