"""Depth over real DDS: from a depth image, a CameraInfo and poses to points and markers."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from builtin_interfaces.msg import Time
from pose_node.msg import PersonPose3DArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from pose_node import COCO17, Frame, Poses
from pose_node.depth import Poses3D
from pose_node.ros.depth_topics import DepthOptions, DepthTopics
from pose_node.ros.messages import to_stamp_ns

pytestmark = pytest.mark.ros

WIDTH, HEIGHT, FOCAL = 160, 120, 100.0
DISTANCE = 2.0
MAX_PIXELS = 1_000_000
STAMP_NS = 1_700_000_000_123_456_789
PATIENCE = 3000  # looks, a hundred a second


def header(offset_ms: float = 0) -> Header:
    seconds, nanoseconds = divmod(STAMP_NS + round(offset_ms * 1e6), 1_000_000_000)
    return Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id="camera_optical_frame")


def depth_image(offset_ms: float = 0, **changes: Any) -> Image:
    """Everything is `DISTANCE` away."""
    fields: dict[str, Any] = {
        "header": header(offset_ms),
        "width": WIDTH,
        "height": HEIGHT,
        "encoding": "16UC1",
        "step": 2 * WIDTH,
        "data": np.full((HEIGHT, WIDTH), 1000 * DISTANCE, np.uint16).tobytes(),
    }
    return Image(**{**fields, **changes})


def camera_info(**changes: Any) -> CameraInfo:
    fields: dict[str, Any] = {
        "header": header(),
        "width": WIDTH,
        "height": HEIGHT,
        "distortion_model": "plumb_bob",
        "d": [0.0] * 5,
        "k": [FOCAL, 0.0, WIDTH / 2 - 0.5, 0.0, FOCAL, HEIGHT / 2 - 0.5, 0.0, 0.0, 1.0],
    }
    return CameraInfo(**{**fields, **changes})


def poses(*ids: int) -> Poses:
    random = np.random.default_rng(5)
    low, high = (0.45 * WIDTH, 0.4 * HEIGHT, 0.9), (0.6 * WIDTH, 0.6 * HEIGHT, 1.0)
    keypoints = random.uniform(low, high, (len(ids), 17, 3))
    boxes = np.tile([60.0, 40, 110, 80], (len(ids), 1))
    return Poses.from_arrays(boxes, np.full(len(ids), 0.8), keypoints, np.array(ids))


class Bench:
    """A node with depth topics, and a peer that plays the camera and listens."""

    def __init__(self, rclpy: Any, transport: str, camera: str, arguments: list[str]) -> None:
        self.node = LifecycleNode("pose_node", cli_args=["--ros-args", *arguments])
        self.peer: Node = rclpy.create_node("peer")
        self.warnings: list[str] = []
        self.topics = DepthTopics(self.node, camera, transport, self.warnings.append)
        self.topics.subscribe(lambda: MAX_PIXELS)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._executor.add_node(self.peer)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()
        self._publishers: dict[str, Any] = {}
        self._destroyed = False

    def stop(self) -> None:
        self._executor.shutdown()
        self._thread.join()

    def close(self) -> None:
        self.stop()
        self.destroy()
        self.node.destroy_node()
        self.peer.destroy_node()

    def destroy(self) -> None:
        if not self._destroyed:
            self._destroyed = True
            self.topics.destroy()

    def until(self, condition: Callable[[], bool]) -> None:
        pause = threading.Event()
        for _ in range(PATIENCE):
            if condition():
                return
            pause.wait(0.01)
        raise AssertionError(f"waited in vain; warnings: {self.warnings}")

    def send(self, message: Any, topic: str = "") -> None:
        """Publish a depth image or a calibration, and wait until the node has it."""
        is_info = isinstance(message, CameraInfo)
        topic = topic or (self.topics.camera_info_topic if is_info else self.topics.topic)
        if topic not in self._publishers:
            self._publishers[topic] = self.peer.create_publisher(type(message), topic, 5)
        publisher = self._publishers[topic]
        self.until(lambda: publisher.get_subscription_count() > 0)
        received, info = self.topics.statistics.report().received, self.topics._info
        publisher.publish(message)
        if is_info:
            self.until(lambda: self.topics._info is not info)
        else:
            self.until(lambda: self.topics.statistics.report().received > received)

    def listen(self, kind: type, topic: str) -> queue.Queue[Any]:
        found: queue.Queue[Any] = queue.Queue()
        self.peer.create_subscription(kind, topic, found.put, QoSProfile(depth=10))
        ours = [item for item in self.node.publishers if item.topic_name == f"/{topic}"]
        self.until(lambda: all(item.get_subscription_count() > 0 for item in ours))
        return found

    def deliver(
        self,
        people: Poses,
        *,
        always: bool = False,
        size: tuple[int, int] = (WIDTH, HEIGHT),
        **options: Any,
    ) -> tuple[Header, Poses3D] | None:
        image = np.zeros((size[1], size[0], 3), np.uint8)
        frame = Frame("", "camera_optical_frame", to_stamp_ns(header()), image)
        return self.topics.deliver(
            header(), frame, people, COCO17, options=DepthOptions(**options), always=always
        )

    def space(self, people: Poses, **options: Any) -> Poses3D:
        """What `deliver` finds."""
        found = self.deliver(people, always=True, **options)
        assert found is not None
        return found[1]


@pytest.fixture
def make_bench(ros: Any) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(transport: str = "raw", *arguments: str, camera: str = "") -> Bench:
        made.append(Bench(ros, transport, camera, list(arguments)))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


def expected(people: Poses) -> np.ndarray:
    x, y = np.moveaxis(people.keypoints[:, :, :2], -1, 0)
    z = np.full(x.shape, DISTANCE)
    return np.stack([(x - WIDTH / 2) * z / FOCAL, (y - HEIGHT / 2) * z / FOCAL, z], axis=-1)


def test_people_in_space(bench: Bench) -> None:
    messages = bench.listen(PersonPose3DArray, "poses_3d")
    bench.send(camera_info())
    bench.send(depth_image())
    people = poses(4, -1)
    shown, found = bench.deliver(people) or (None, None)
    message = messages.get(timeout=10)
    assert message.header == header() == shown
    assert message.skeleton == "coco17"
    assert [person.track_id for person in message.people] == [4, -1]
    assert message.people[0].score == pytest.approx(0.8)
    points = [[(p.x, p.y, p.z) for p in person.keypoints] for person in message.people]
    np.testing.assert_allclose(points, expected(people), atol=1e-5)
    assert isinstance(found, Poses3D)
    np.testing.assert_allclose(points, found.points)
    np.testing.assert_allclose(
        [person.keypoint_scores for person in message.people], people.keypoints[:, :, 2]
    )
    position = message.people[0].position
    np.testing.assert_allclose((position.x, position.y, position.z), found.positions[0])
    assert bench.warnings == []
    report = bench.topics.statistics.report()
    assert (report.received, report.matched, report.missed, report.refused) == (1, 1, 0, 0)


def test_nobody_is_an_empty_message(bench: Bench) -> None:
    messages = bench.listen(PersonPose3DArray, "poses_3d")
    bench.send(camera_info())
    bench.send(depth_image())
    bench.deliver(poses())
    assert list(messages.get(timeout=10).people) == []


def test_markers(bench: Bench) -> None:
    messages = bench.listen(MarkerArray, "markers")
    bench.send(camera_info())
    bench.send(depth_image())
    bench.deliver(poses(4), marker_lifetime=2.0)
    found = messages.get(timeout=10).markers
    assert sorted(marker.ns for marker in found) == ["joints", "labels", "limbs"]
    assert {marker.id for marker in found} == {4}
    assert {marker.lifetime.sec for marker in found} == {2}
    assert found[0].header == header()
    bench.deliver(poses())
    assert {marker.action for marker in messages.get(timeout=10).markers} == {Marker.DELETE}


def test_takes_its_markers_along_when_it_goes(bench: Bench) -> None:
    messages = bench.listen(MarkerArray, "markers")
    bench.destroy()
    assert messages.get(timeout=10).markers[0].action == Marker.DELETEALL


def test_takes_its_markers_along_when_it_rests(bench: Bench) -> None:
    messages = bench.listen(MarkerArray, "markers")
    bench.topics.clear()
    assert messages.get(timeout=10).markers[0].action == Marker.DELETEALL


def test_goes_quietly_after_a_shutdown(bench: Bench, ros: Any) -> None:
    bench.stop()
    ros.shutdown()
    bench.destroy()
    assert bench.topics.explain_silence() == []


def test_does_nothing_for_nobody(bench: Bench) -> None:
    assert bench.deliver(poses(4)) is None
    assert bench.topics.statistics.report().missed == 0
    assert bench.deliver(poses(4), always=True) is not None


def test_compressed_depth(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench("compressedDepth")
    assert bench.topics.topic == "/depth/image_raw/compressedDepth"
    content = cv2.imencode(".png", np.full((HEIGHT, WIDTH), 1000 * DISTANCE, np.uint16))[1]
    bench.send(camera_info())
    bench.send(
        CompressedImage(
            header=header(),
            format="16UC1; compressedDepth png",
            data=bytes(12) + content.tobytes(),
        )
    )
    np.testing.assert_allclose(bench.space(poses(1)).points, expected(poses(1)), atol=1e-5)


def test_topics_have_the_cameras_prefix_and_follow_remapping(
    make_bench: Callable[..., Bench],
) -> None:
    front = make_bench(camera="front")
    assert front.topics.topic == "/front/depth/image_raw"
    assert front.topics.camera_info_topic == "/front/camera_info"
    names = {publisher.topic_name for publisher in front.node.publishers}
    assert {"/front/poses_3d", "/front/markers"} <= names
    remapped = make_bench(
        "compressedDepth",
        *("-r", "image_raw:=/camera/color/image_raw"),
        *("-r", "depth/image_raw:=/camera/aligned/image"),
    )
    assert remapped.topics.topic == "/camera/aligned/image/compressedDepth"
    assert remapped.topics.camera_info_topic == "/camera/color/camera_info"
    explicit = make_bench(
        "raw", *("-r", "image_raw:=/a/image_raw"), *("-r", "camera_info:=/b/camera_info")
    )
    assert explicit.topics.camera_info_topic == "/b/camera_info"


def test_depth_that_is_late_is_waited_for(bench: Bench) -> None:
    bench.send(camera_info())
    bench.send(depth_image(-100))  # the stream lives
    found: list[Poses3D] = []
    worker = threading.Thread(target=lambda: found.append(bench.space(poses(1), patience=60.0)))
    worker.start()
    bench.send(depth_image(5))
    worker.join(timeout=10)
    np.testing.assert_allclose(found[0].points, expected(poses(1)), atol=1e-5)


def test_unsubscribing_wakes_who_waits(bench: Bench) -> None:
    bench.send(camera_info())
    bench.send(depth_image(-100))
    worker = threading.Thread(target=lambda: bench.space(poses(1), patience=60.0))
    worker.start()
    bench.topics.unsubscribe()
    worker.join(timeout=10)
    assert not worker.is_alive()
    assert bench.topics.explain_silence() == []


@pytest.mark.parametrize(
    ("message", "options", "reason"),
    [
        (None, {}, "none has come on /depth/image_raw"),
        (depth_image(30), {"patience": 0.0}, "within 20 ms .* is 30.0 ms later; synchronise"),
        (depth_image(-30), {"patience": 0.0}, "is 30.0 ms earlier"),
        (depth_image(data=bytes(10)), {}, "needs 38400 bytes, got 10"),
        (depth_image(encoding="bgr8"), {}, "is no depth"),
        (depth_image(width=1 << 20, height=1 << 20, step=1 << 21), {}, "at most 1000000 in all"),
        (depth_image(width=WIDTH // 2, step=WIDTH), {}, "not registered"),
    ],
)
def test_without_usable_depth_all_is_unknown(
    bench: Bench, message: Image | None, options: dict[str, Any], reason: str
) -> None:
    messages = bench.listen(PersonPose3DArray, "poses_3d")
    markers = bench.listen(MarkerArray, "markers")
    bench.send(camera_info())
    if message is not None:
        bench.send(message)
    bench.deliver(poses(4), **options)
    person = messages.get(timeout=10).people[0]
    assert person.track_id == 4
    assert len(person.keypoints) == 17
    assert np.isnan([(p.x, p.y, p.z) for p in (*person.keypoints, person.position)]).all()
    report = bench.topics.statistics.report()
    assert report.missed == 1
    assert any(re.search(reason, warning) for warning in bench.warnings), bench.warnings
    assert all(warning.startswith("depth of /depth/image_raw: ") for warning in bench.warnings)
    assert markers.empty()  # those of before fade by themselves


@pytest.mark.parametrize(
    ("info", "size", "reason"),
    [
        (None, (WIDTH, HEIGHT), "no CameraInfo has come on /camera_info"),
        (camera_info(k=[0.0] * 9), (WIDTH, HEIGHT), "not calibrated"),
        (camera_info(), (WIDTH, HEIGHT // 2), "another aspect ratio"),
    ],
)
def test_without_a_calibration_all_is_unknown(
    bench: Bench, info: CameraInfo | None, size: tuple[int, int], reason: str
) -> None:
    if info is not None:
        bench.send(info)
    bench.send(depth_image())
    assert np.isnan(bench.space(poses(1), size=size).points).all()
    assert len(bench.warnings) == 1
    assert reason in bench.warnings[0]
    assert reason in bench.topics.statistics.report().last_error


def test_warns_once_in_a_while(bench: Bench) -> None:
    bench.send(depth_image())
    for _ in range(5):
        bench.space(poses(1))
    assert len(bench.warnings) == 1
    assert bench.topics.statistics.report().missed == 5


def test_a_new_calibration_holds_at_once(bench: Bench) -> None:
    bench.send(camera_info())
    bench.send(depth_image())
    before = bench.space(poses(1)).points
    k = camera_info().k.tolist()
    bench.send(camera_info(k=[2 * FOCAL, *k[1:4], 2 * FOCAL, *k[5:]]))
    after = bench.space(poses(1)).points
    np.testing.assert_allclose(after[..., :2], before[..., :2] / 2, atol=1e-6)


def test_calibration_of_a_region_and_of_rectified_images(bench: Bench) -> None:
    region = RegionOfInterest(x_offset=20, y_offset=10, width=WIDTH, height=HEIGHT)
    bench.send(
        camera_info(
            width=4 * WIDTH,
            height=4 * HEIGHT,
            roi=region,
            k=[FOCAL, 0.0, WIDTH / 2 + 19.5, 0.0, FOCAL, HEIGHT / 2 + 9.5, 0.0, 0.0, 1.0],
        )
    )
    bench.send(depth_image())
    np.testing.assert_allclose(bench.space(poses(1)).points, expected(poses(1)), atol=1e-5)
    k = camera_info().k.tolist()
    p = [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]
    bench.send(camera_info(p=p, k=[1.0] * 9, d=[0.4, 0.3, 0.2, 0.1, 0.0]))
    found = bench.space(poses(1), rectified=True)
    np.testing.assert_allclose(found.points, expected(poses(1)), atol=1e-5)


def test_says_what_is_missing(bench: Bench) -> None:
    bench.peer.create_publisher(Image, "/camera/aligned_depth_to_color/image_raw", 1)
    bench.until(
        lambda: (
            "/camera/aligned_depth_to_color/image_raw"
            in dict(bench.node.get_topic_names_and_types())
        )
    )
    depth, info = bench.topics.explain_silence()
    assert "-r depth/image_raw:=/camera/aligned_depth_to_color/image_raw" in depth
    assert "no CameraInfo on /camera_info" in info
    bench.send(camera_info())
    bench.send(depth_image())
    assert bench.topics.explain_silence() == []
