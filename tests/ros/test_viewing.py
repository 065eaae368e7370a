"""The live viewer over DDS: what it logs of what a node publishes; without the Rerun SDK."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from builtin_interfaces.msg import Time
from pose_node.msg import PersonPose3DArray, PersonPoseArray, SkeletonInfo
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header

from pose_node.depth import Poses3D
from pose_node.errors import ViewError
from pose_node.imaging import encode_jpeg
from pose_node.poses import COCO17, Poses, Skeleton
from pose_node.ros import messages, viewing
from pose_node.ros.viewing import LiveView
from pose_node.viewing.pose_log import ViewedFrame
from tests.conftest import make_poses

pytestmark = pytest.mark.ros

TRIO = Skeleton("trio", ("left_hand", "right_hand", "nose"), ((0, 2),), (1, 0, 2), (1 / 3,) * 3)
PATIENCE = 3000  # looks, a hundred a second
WIDTH, HEIGHT = 32, 24


class Log:
    """Remembers what it is given."""

    def __init__(self) -> None:
        self.frames: list[tuple[ViewedFrame, Skeleton]] = []

    def write(self, frame: ViewedFrame, skeleton: Skeleton) -> None:
        self.frames.append((frame, skeleton))


class Bench:
    """A live viewer and a peer that publishes, spun by the test."""

    def __init__(self, rclpy: Any, **arguments: Any) -> None:
        self.log = Log()
        self.view = LiveView(self.log, **arguments)
        self.peer = rclpy.create_node("peer")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.view)
        self.executor.add_node(self.peer)
        self._publishers: dict[str, Any] = {}

    def publish(self, topic: str, message: Any, *, latched: bool = False) -> None:
        """Publish when the viewer listens."""
        if topic not in self._publishers:
            durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
            quality = QoSProfile(depth=50, durability=durability)
            publisher = self.peer.create_publisher(type(message), topic, quality)
            self._publishers[topic] = publisher
            self.until(lambda: publisher.get_subscription_count() == 1)
            self.until(lambda: self.view.count_publishers(topic) == 1)
        self._publishers[topic].publish(message)

    def until(self, done: Callable[[], object]) -> None:
        for _ in range(PATIENCE):
            if done():
                return
            self.executor.spin_once(timeout_sec=0.01)
        raise AssertionError("it did not happen")

    def frame(self, number: int = 0) -> ViewedFrame:
        """A frame that was logged, when it was."""
        self.until(lambda: len(self.log.frames) > number)
        return self.log.frames[number][0]


@pytest.fixture
def start(ros: Any) -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(**arguments: Any) -> Bench:
        benches.append(Bench(ros, **arguments))
        return benches[-1]

    yield make
    for bench in benches:
        bench.view.destroy_node()
        bench.peer.destroy_node()


def header(number: int = 1, frame_id: str = "camera") -> Header:
    return Header(stamp=Time(sec=100, nanosec=number), frame_id=frame_id)


def people(poses: Poses, number: int = 1, skeleton: str = "coco17") -> PersonPoseArray:
    return messages.to_pose_array(
        header(number), poses, width=WIDTH, height=HEIGHT, skeleton=skeleton
    )


def in_space(poses: Poses, number: int, frame_id: str) -> PersonPose3DArray:
    found = Poses3D.from_points(np.ones((len(poses), 17, 3)), poses)
    return messages.to_pose_array_3d(header(number, frame_id), found, skeleton="coco17")


def picture(value: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), value, np.uint8)


def test_image_and_people_of_one_stamp_come_together(start: Any) -> None:
    bench = start()
    bench.publish("image_raw", messages.to_image(header(1), picture(50)))
    bench.executor.spin_once(timeout_sec=0.5)
    bench.publish("poses", people(make_poses(2)))
    frame = bench.frame()
    assert frame.stamp_ns == 100 * 10**9 + 1
    assert frame.camera == ""
    np.testing.assert_array_equal(frame.poses.keypoints, make_poses(2).keypoints)
    assert frame.image is not None
    assert frame.channel_order == "bgr"
    np.testing.assert_array_equal(frame.image, picture(50))
    assert bench.log.frames[0][1] is COCO17
    assert bench.view.num_frames == 1


def test_people_without_images(start: Any) -> None:
    bench = start(images="")
    bench.publish("poses", people(Poses.empty(17)))
    frame = bench.frame()
    assert frame.image is None
    assert frame.people_3d is None
    assert frame.poses.keypoints.shape == (0, 17, 3)


@pytest.mark.parametrize(("frame_id", "axes"), [("camera", "optical"), ("map", "up")])
def test_points_in_space(start: Any, frame_id: str, axes: str) -> None:
    bench = start(images="")
    bench.publish("poses_3d", in_space(make_poses(2), 1, frame_id))
    bench.executor.spin_once(timeout_sec=0.5)
    bench.publish("poses", people(make_poses(2)))
    frame = bench.frame()
    assert frame.people_3d is not None
    assert frame.people_3d.points.shape == (2, 17, 3)
    assert frame.axes == axes


def test_cameras_with_compressed_images(start: Any) -> None:
    bench = start(cameras=("front", "rear"), images="image_annotated", compressed=True)
    jpeg = messages.to_compressed_image(header(1), encode_jpeg(picture(50)))
    bench.publish("front/image_annotated/compressed", jpeg)
    bench.executor.spin_once(timeout_sec=0.5)
    bench.publish("front/poses", people(make_poses(1)))
    bench.publish("rear/poses", people(make_poses(3)))
    bench.until(lambda: len(bench.log.frames) == 2)
    frames = {frame.camera: frame for frame, _ in bench.log.frames}
    assert (len(frames["front"].poses), len(frames["rear"].poses)) == (1, 3)
    assert frames["front"].image is not None
    assert frames["rear"].image is None


def test_a_skeleton_that_is_not_built_in(start: Any) -> None:
    bench = start(images="")
    bench.publish("poses", people(Poses.empty(3), 1, "trio"))
    bench.executor.spin_once(timeout_sec=0.5)
    info = messages.to_skeleton_info(TRIO, Time())
    broken = SkeletonInfo(name="trio", keypoint_names=["a"], edges=[0, 7], flip=[0])
    bench.publish("skeleton_info", broken, latched=True)
    bench.publish("skeleton_info", info, latched=True)
    for number in range(2, 2 + PATIENCE):
        bench.publish("poses", people(Poses.empty(3), number, "trio"))
        bench.executor.spin_once(timeout_sec=0.01)
        if bench.log.frames:
            break
    assert bench.log.frames[0][1] == TRIO


def test_a_damaged_image_costs_no_people(start: Any) -> None:
    bench = start()
    broken = messages.to_image(header(1), picture(50))
    broken.encoding = "nonsense"
    bench.publish("image_raw", broken)
    bench.executor.spin_once(timeout_sec=0.5)
    bench.publish("poses", people(make_poses(2)))
    assert bench.frame().image is None


def test_people_that_contradict_their_skeleton_are_left_out(start: Any) -> None:
    bench = start(images="")
    broken = people(make_poses(2), 1)
    broken.people[1].keypoints = broken.people[1].keypoints[:3]
    bench.publish("poses", broken)
    bench.publish("poses", people(make_poses(1), 2))
    assert bench.frame().stamp_ns == 100 * 10**9 + 2


def test_without_stamps_the_time_of_arrival(start: Any) -> None:
    bench = start(images="")
    message = people(make_poses(1))
    message.header.stamp = Time()
    bench.publish("poses", message)
    stamp_ns = bench.frame().stamp_ns
    assert stamp_ns is not None
    assert stamp_ns > 1_600_000_000 * 10**9


# --- The process --------------------------------------------------------------------------------


class Destination:
    """Stands for a recording."""

    stream = None

    def __init__(self) -> None:
        self.ended = ""

    def close(self) -> str:
        self.ended = "closed"
        return "it is written"

    def abort(self) -> None:
        self.ended = "aborted"


@pytest.fixture
def destination(monkeypatch: pytest.MonkeyPatch) -> Destination:
    found = Destination()
    monkeypatch.setattr(viewing, "open_destination", lambda options: found)
    monkeypatch.setattr(viewing, "prepare_process", lambda: ["a warning"])
    return found


def test_a_signal_ends_it(
    destination: Destination, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(viewing, "note_signals", lambda: [2])
    assert viewing.main(["--live", "--camera", "front"]) == 0
    assert destination.ended == "closed"
    assert capsys.readouterr().out == "0 frames; it is written\n"


def test_wrong_ros_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert viewing.main(["--ros-args", "-r", "nonsense"]) == 1
    assert "ROS cannot start with these arguments" in capsys.readouterr().err


def test_ports_without_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        viewing.parse_options(["--port", "9091"])
    assert "argument --port: needs --serve" in capsys.readouterr().err


def test_a_node_that_fails_leaves_no_recording(
    destination: Destination, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(viewing, "note_signals", list)
    assert viewing.main(["--camera", "no topic"]) == 1
    assert destination.ended == "aborted"
    assert "error: Invalid topic name" in capsys.readouterr().err


def test_a_viewer_that_cannot_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: SimpleNamespace) -> None:
        raise ViewError("no screen")

    monkeypatch.setattr(viewing, "open_destination", fail)
    monkeypatch.setattr(viewing, "prepare_process", list)
    monkeypatch.setattr(viewing, "note_signals", list)
    assert viewing.main([]) == 1
    assert capsys.readouterr().err == "pose-node view: error: no screen\n"
