"""The camera as a process of its own: what arrives over DDS, and how the process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from pose_node.errors import SourceError
from pose_node.playback import Schedule
from pose_node.ros import camera
from pose_node.ros.camera import Summary
from pose_node.ros.camera_options import CameraOptions
from pose_node.sources import SourceFrame

pytestmark = pytest.mark.ros

REPOSITORY = Path(__file__).resolve().parents[2]
TYPES = {"image_raw": Image, "image_raw/compressed": CompressedImage, "camera_info": CameraInfo}
WIDTH, HEIGHT = 64, 48
WAIT_FOR_BOTH = ("--wait-for", "image", "--wait-for", "camera_info")


class Process:
    """A camera process, what it wrote and how it ended."""

    def __init__(self, *arguments: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "pose_node.ros.entry", "camera", *arguments],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self, number: int | None = None) -> tuple[int, str]:
        """Wait for the end, after sending a signal if any: exit code and output."""
        if number is not None:
            self.popen.send_signal(number)
        output, _ = self.popen.communicate(timeout=30)
        return self.popen.returncode, output


class Receiver:
    """Everything that arrives on the topics of a camera."""

    def __init__(self, rclpy: Any, *topics: str, namespace: str, reliability: str) -> None:
        self.node: Node = rclpy.create_node("receiver", namespace=namespace)
        self.received: dict[str, list[Any]] = defaultdict(list)
        self._rclpy = rclpy
        quality = QoSProfile(depth=50, reliability=ReliabilityPolicy[reliability])
        for topic in topics:
            store = self.received[topic].append
            self.node.create_subscription(TYPES[topic], topic, store, quality)

    def spin_until(self, done: Callable[[], bool], seconds: float = 30.0) -> bool:
        """Receive until `done`; whether that came in time."""
        end = time.monotonic() + seconds
        while not done() and time.monotonic() < end:
            self._rclpy.spin_once(self.node, timeout_sec=0.05)
        return done()


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Starts camera processes; whatever still runs after the test is killed."""
    started: list[Process] = []

    def start_one(*arguments: object) -> Process:
        started.append(Process(*map(str, arguments)))
        return started[-1]

    yield start_one
    for process in started:
        if process.popen.poll() is None:
            process.popen.kill()
        process.popen.communicate()


@pytest.fixture
def receive(ros: Any) -> Iterator[Callable[..., Receiver]]:
    """Makes receivers; their nodes are destroyed after the test."""
    made: list[Receiver] = []

    def make(*topics: str, namespace: str = "", reliability: str = "RELIABLE") -> Receiver:
        made.append(Receiver(ros, *topics, namespace=namespace, reliability=reliability))
        return made[-1]

    yield make
    for receiver in made:
        receiver.node.destroy_node()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of three images whose blue is 50, 100 and 150."""
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), picture(50 + 50 * index))
    return folder


def picture(blue: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), (blue, 20, 230), np.uint8)


def stamps(messages: list[Any]) -> list[tuple[int, int]]:
    return [(message.header.stamp.sec, message.header.stamp.nanosec) for message in messages]


def test_everything_of_a_folder_arrives(
    start: Callable[..., Process], receive: Callable[..., Receiver], images: Path, tmp_path: Path
) -> None:
    calibration = tmp_path / "calibration.yaml"
    calibration.write_text(
        f"image_width: {WIDTH}\nimage_height: {HEIGHT}\n"
        "camera_matrix: {data: [60, 0, 32, 0, 61, 24, 0, 0, 1]}\n"
    )
    receiver = receive(*TYPES, namespace="front")
    before = time.time_ns()
    process = start(
        *(images, "--once", "--rate", 20, "--transport", "both", *WAIT_FOR_BOTH),
        *("--frame-id", "front_optical_frame", "--camera-info", calibration),
        *("--ros-args", "-r", "__ns:=/front"),
    )
    received = receiver.received
    assert receiver.spin_until(lambda: all(len(received[topic]) == 3 for topic in TYPES))
    code, output = process.end()
    assert code == 0, output
    assert "published 3 frames" in output

    raw, compressed, info = (received[topic] for topic in TYPES)
    assert stamps(raw) == stamps(compressed) == stamps(info) == sorted(stamps(raw))
    first, last = (seconds * 10**9 + nanoseconds for seconds, nanoseconds in stamps(raw)[::2])
    assert before < first < last < time.time_ns()
    for index, message in enumerate(raw):
        assert message.header.frame_id == "front_optical_frame"
        assert (message.encoding, message.is_bigendian) == ("bgr8", 0)
        assert (message.width, message.height, message.step) == (WIDTH, HEIGHT, 3 * WIDTH)
        assert bytes(message.data) == picture(50 + 50 * index).tobytes()
    for index, message in enumerate(compressed):
        assert message.header.frame_id == "front_optical_frame"
        assert message.format == "bgr8; jpeg compressed bgr8"
        decoded = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None
        np.testing.assert_allclose(decoded.astype(int), picture(50 + 50 * index), atol=4)
    for message in info:
        assert message.header.frame_id == "front_optical_frame"
        assert (message.width, message.height) == (WIDTH, HEIGHT)
        assert list(message.k) == [60, 0, 32, 0, 61, 24, 0, 0, 1]


@pytest.mark.parametrize("offered", ["reliable", "best_effort"])
def test_real_video_arrives_whole(
    start: Callable[..., Process],
    receive: Callable[..., Receiver],
    shared: Path,
    offered: str,
) -> None:
    receiver = receive("image_raw", "camera_info", reliability="BEST_EFFORT")
    video = shared / "data/videos/juggle.mp4"
    process = start(video, "--count", 20, *WAIT_FOR_BOTH, "--reliability", offered)
    images, infos = receiver.received["image_raw"], receiver.received["camera_info"]
    assert receiver.spin_until(lambda: len(images) == len(infos) == 20)
    (publisher,) = receiver.node.get_publishers_info_by_topic("image_raw")
    assert publisher.qos_profile.reliability.name == offered.upper()
    assert process.end()[0] == 0
    assert len(set(stamps(images))) == 20
    assert {(image.width, image.height, len(image.data)) for image in images} == {
        (1280, 720, 1280 * 720 * 3)
    }
    first = np.frombuffer(images[0].data, np.uint8).reshape(720, 1280, 3)
    np.testing.assert_array_equal(first, cv2.VideoCapture(str(video)).read()[1])
    assert not any(info.k.any() for info in infos)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_clean(
    start: Callable[..., Process], receive: Callable[..., Receiver], images: Path, number: int
) -> None:
    receiver = receive("image_raw")
    process = start(images, "--size", "32x24")
    # More than the folder has: it goes round and round.
    assert receiver.spin_until(lambda: len(receiver.received["image_raw"]) > 6)
    code, output = process.end(number)
    assert code == 0, output
    assert "Traceback" not in output
    assert "published" in output
    assert receiver.received["image_raw"][0].width == 32


@pytest.mark.parametrize(("heard", "missed"), [("camera_info", "image"), ("image", "camera_info")])
def test_signal_while_waiting_for_a_subscriber(
    start: Callable[..., Process],
    receive: Callable[..., Receiver],
    images: Path,
    heard: str,
    missed: str,
) -> None:
    topic = "camera_info" if heard == "camera_info" else "image_raw"
    receiver = receive(topic)
    process = start(images, "--wait-for", heard, "--wait-for", missed)
    node = receiver.node
    assert receiver.spin_until(lambda: bool(node.get_publishers_info_by_topic(topic)))
    code, output = process.end(signal.SIGTERM)
    assert code == 0, output
    assert "published 0 frames" in output
    assert receiver.received[topic] == []


def test_calibration_for_another_size(
    start: Callable[..., Process], receive: Callable[..., Receiver], images: Path, tmp_path: Path
) -> None:
    calibration = tmp_path / "calibration.yaml"
    calibration.write_text(
        "image_width: 640\nimage_height: 480\n"
        "camera_matrix: {data: [600, 0, 320, 0, 600, 240, 0, 0, 1]}\n"
    )
    receiver = receive("camera_info", "image_raw")
    process = start(images, "--camera-info", calibration)
    assert receiver.spin_until(lambda: len(receiver.received["camera_info"]) > 3)
    code, output = process.end(signal.SIGINT)
    assert code == 0
    assert output.count("is for images of 640x480, but this one has 64x48") == 1
    assert not receiver.received["camera_info"][0].k.any()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["missing.mp4"], "missing.mp4 does not exist"),
        (["broken.mp4"], "broken.mp4 cannot be opened as a video"),
        (["broken.png"], "broken.png cannot be read"),
        (["good.png", "--camera-info", "missing.yaml"], "calibration missing.yaml cannot be read"),
    ],
)
def test_what_cannot_be_read_ends_with_code_1(
    start: Callable[..., Process],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("good.png", picture(1))
    for name in ("broken.mp4", "broken.png"):
        Path(name).write_text("nonsense")
    code, output = start(*arguments, "--once").end()
    assert code == 1
    assert reason in output
    assert "Traceback" not in output


class FakePublisher:
    """Stands in for CameraPublisher: notes what it is given."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.finished = 0
        self.asked = 0

    def has_subscribers(self) -> bool:
        self.asked += 1
        return self.asked > 3

    def publish(self, prepared: int) -> None:
        self.sent.append(prepared)

    def finish(self) -> None:
        self.finished += 1


def run_fake(
    publisher: FakePublisher, reader: Any, stop: threading.Event | None = None, **options: Any
) -> Summary:
    fake: Any = publisher
    return camera.run(
        fake, reader, Schedule(1000), CameraOptions("fake", **options), stop or threading.Event()
    )


def test_run_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "_DISCOVERY_S", 0)
    publisher = FakePublisher()
    summary = run_fake(publisher, iter(range(5)), wait_for=("image",))
    assert (summary.published, publisher.sent) == (5, [0, 1, 2, 3, 4])
    assert (publisher.asked, publisher.finished) == (4, 1)


def test_run_ends_at_the_count() -> None:
    publisher = FakePublisher()
    assert run_fake(publisher, iter(range(5)), count=2).published == 2
    assert publisher.sent == [0, 1]


def test_run_that_is_stopped() -> None:
    publisher, stop = FakePublisher(), threading.Event()
    stop.set()
    assert run_fake(publisher, iter(range(5)), stop).published == 0
    assert run_fake(publisher, iter(range(5)), stop, wait_for=("image",)).published == 0
    assert (publisher.sent, publisher.finished) == ([], 0)


def test_run_passes_errors_on() -> None:
    def frames() -> Iterator[int]:
        yield 1
        raise SourceError("gone")

    publisher = FakePublisher()
    with pytest.raises(SourceError, match="gone"):
        run_fake(publisher, frames())
    assert publisher.sent == [1]


def test_live_frames_keep_the_time_of_their_capture(ros: Any) -> None:
    """A webcam's frame is stamped when it is read, a file's when it is sent."""
    node = ros.create_node("camera")
    publisher = camera.CameraPublisher(node, CameraOptions("0"), None)
    frame = SourceFrame(picture(3), 0, 0.0, "0", (WIDTH, HEIGHT))
    live, from_file = (publisher.prepare(frame, live=live) for live in (True, False))
    assert live.stamp_ns is not None
    assert 0 < live.stamp_ns <= node.get_clock().now().nanoseconds
    assert from_file.stamp_ns is None
    assert live.jpeg is None  # Nobody listens.
    node.destroy_node()
