"""The node as a process of its own: real images over DDS, its answers, its errors and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")
pytest.importorskip("pose_node.msg", reason="messages missing: build the package first")

from builtin_interfaces.msg import Time
from pose_node.msg import PersonPoseArray, SkeletonInfo
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from pose_node.poses import COCO17, Poses
from pose_node.ros import messages
from tests.ros.process_bench import REPOSITORY, Process, Robot

pytestmark = pytest.mark.ros


def header(number: int) -> Header:
    return Header(
        stamp=Time(sec=-5 + number, nanosec=999_999_999 - number), frame_id=f"optical_{number}"
    )


def coco_images(shared: Path, count: int) -> list[np.ndarray]:
    paths = sorted((shared / "data/coco/val2017").glob("*.jpg"))[:count]
    return [cv2.imread(str(path)) for path in paths]


def assert_same_people(found: Poses, expected: Poses) -> None:
    assert len(found) == len(expected)
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=0.05)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
    np.testing.assert_allclose(found.keypoints[..., :2], expected.keypoints[..., :2], atol=0.1)
    np.testing.assert_allclose(found.keypoints[..., 2], expected.keypoints[..., 2], atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_coco_images_over_dds_give_the_poses_of_the_engine(
    start: Callable[..., Process], robot: Robot, shared: Path, yolo11n_pose: Path, transport: str
) -> None:
    from pose_node import PoseEngine

    images = coco_images(shared, 6)
    jpegs = [cv2.imencode(".jpg", image)[1] for image in images]
    if transport == "compressed":
        images = [cv2.imdecode(jpeg, cv2.IMREAD_COLOR) for jpeg in jpegs]
        publisher = robot.node.create_publisher(CompressedImage, "image_raw/compressed", 1)
    else:
        # As large as goes quickly from a process without the settings of `prepare_process`.
        images = [cv2.resize(image, None, fx=0.5, fy=0.5) for image in images]
        publisher = robot.node.create_publisher(Image, "image_raw", 1)
    answers = robot.listen(PersonPoseArray, "poses")
    annotated = robot.listen(Image, "image_annotated")
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    infos = robot.listen(SkeletonInfo, "skeleton_info", latched)
    # Best effort, one of these single images may get lost.
    reliable = f"qos_overrides.{publisher.topic_name}.subscription.reliability:=reliable"
    parameters = [f"model:={yolo11n_pose}", "device:=cpu", "image_size:=320"]
    process = start(*parameters, f"image_transport:={transport}", reliable)
    assert robot.wait(lambda: publisher.get_subscription_count() == 1), process.output

    engine = PoseEngine.load(str(yolo11n_pose), device="cpu", image_size=320)
    people = 0
    for number, image in enumerate(images):
        if transport == "raw":
            publisher.publish(messages.to_image(header(number), image))
        else:
            publisher.publish(messages.to_compressed_image(header(number), jpegs[number].tobytes()))
        assert robot.wait(lambda count=number + 1: len(answers) == count), process.output
        answer = answers[number]
        assert answer.header == header(number)
        assert (answer.image_height, answer.image_width) == image.shape[:2]
        assert answer.skeleton == "coco17"
        expected = engine([image])[0]
        assert_same_people(messages.to_poses(answer), expected)
        people += len(expected)
    assert people > 3
    assert robot.wait(lambda: len(annotated) == len(images))
    assert [picture.header for picture in annotated] == [answer.header for answer in answers]
    assert (annotated[-1].height, annotated[-1].width) == images[-1].shape[:2]
    assert robot.wait(lambda: bool(infos))
    assert infos[0].keypoint_names == list(COCO17.keypoint_names)
    assert process.end(signal.SIGINT) == 0
    assert "Traceback" not in process.output


@pytest.mark.slow
def test_people_on_a_real_video_keep_their_ids(
    start: Callable[..., Process], robot: Robot, shared: Path, yolo11n_pose: Path
) -> None:
    """Somebody walks through the picture; the clock of the camera jumps back in the middle."""
    video = cv2.VideoCapture(str(shared / "data/videos/one_by_one_person.mp4"))
    frames = [video.read()[1] for _ in range(92)][80:]
    publisher = robot.node.create_publisher(Image, "image_raw", 1)
    answers, unsmoothed = (
        robot.listen(PersonPoseArray, topic) for topic in ("poses", "poses_unsmoothed")
    )
    process = start(
        *(f"model:={yolo11n_pose}", "device:=cpu", "image_size:=320", "tracker:=on"),
        *("smoothing:=true", "publish_unsmoothed:=true"),
        f"qos_overrides.{publisher.topic_name}.subscription.reliability:=reliable",
        name="following",
    )
    assert robot.wait(lambda: publisher.get_subscription_count() == 1), process.output
    assert robot.wait(lambda: robot.node.count_publishers("poses_unsmoothed") == 1), process.output

    def follow(second: int) -> list[list[int]]:
        """The ids in each image, a tenth of a second apart."""
        ids = []
        for number, frame in enumerate(frames):
            stamp = Time(sec=second + number // 10, nanosec=number % 10 * 10**8)
            seen = len(answers) + 1
            publisher.publish(messages.to_image(Header(stamp=stamp, frame_id="optical"), frame))
            assert robot.wait(lambda seen=seen: len(answers) == seen), process.output
            ids.append([person.track_id for person in answers[-1].people])
        return ids

    before, after = follow(1000), follow(500)
    for ids in (before, after):
        assert ids[0] == [-1]  # not confirmed yet
        assert ids[5] == ids[-1]
        assert ids[-1][0] >= 0
    assert before[-1] != after[-1]
    newest = answers[-1].header
    assert robot.wait(lambda: bool(unsmoothed) and unsmoothed[-1].header == newest), process.output
    # The first ones may have come before the node knew that somebody listens.
    for smooth, raw in zip(reversed(answers), reversed(unsmoothed), strict=False):
        assert smooth.header == raw.header
        assert [person.bbox for person in smooth.people] == [person.bbox for person in raw.people]
    assert answers[-1].people[0].keypoints != unsmoothed[-1].people[0].keypoints
    assert process.end(signal.SIGINT) == 0
    assert "[ERROR]" not in process.output


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_images_flow_ends_it_clean(
    start: Callable[..., Process], robot: Robot, yolo11n_pose: Path, number: int
) -> None:
    publisher = robot.node.create_publisher(Image, "image_raw", 1)
    answers = robot.listen(PersonPoseArray, "poses")
    process = start(f"model:={yolo11n_pose}", "image_size:=128")
    image = messages.to_image(header(1), np.zeros((96, 128, 3), np.uint8))
    robot.node.create_timer(0.01, lambda: publisher.publish(image))
    assert robot.wait(lambda: len(answers) > 20), process.output
    assert not any(answer.people for answer in answers)
    process.popen.send_signal(number)
    assert robot.wait(lambda: process.popen.poll() is not None), process.output
    assert process.end() == 0
    assert "Traceback" not in process.output
    assert "[ERROR]" not in process.output


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_starts_ends_it_clean(
    start: Callable[..., Process], robot: Robot, yolo11n_pose: Path, number: int
) -> None:
    # By a name of its own: nodes of other tests may still be remembered.
    process = start(f"model:={yolo11n_pose}", name="starting")
    # The node is there before its network is.
    assert robot.wait(lambda: "starting" in robot.node.get_node_names()), process.output
    assert process.end(number) == 0
    assert "Traceback" not in process.output
    assert "[ERROR]" not in process.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_waits_to_be_configured_ends_it_clean(
    start: Callable[..., Process], robot: Robot, number: int
) -> None:
    process = start("autostart:=false")
    reports = robot.node.get_publishers_info_by_topic
    assert robot.wait(lambda: bool(reports("/diagnostics"))), process.output
    assert process.end(number) == 0
    assert process.output == ""


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        (["model:=missing/model.pt"], "missing/model.pt"),
        (["score_threshold:=1.5"], "score_threshold (float, 0.0 to 1.0)"),
        (["score_threshold:=1"], "score_threshold (float, 0.0 to 1.0)"),
        (["image_size:=650"], "image_size (int, 32 to 4096 in steps of 32)"),
        (["device:=gpu"], "device must be auto, cpu, cuda or cuda:N, got 'gpu'"),
        (["cameras:=[front, 'rear view']"], "cameras must be names"),
    ],
)
def test_what_cannot_start_ends_with_code_1_and_the_reason(
    start: Callable[..., Process], parameters: list[str], reason: str
) -> None:
    process = start(*parameters)
    assert process.end() == 1
    assert reason in process.output
    assert "Traceback" not in process.output


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--nonsense"], "--nonsense"),
        (["--params-file", "/no/such/file.yaml"], "/no/such/file.yaml"),
        (["-r", "no remapping"], "no remapping"),
        (["-r", "__node:=not a name"], "not a name"),
    ],
)
def test_wrong_ros_arguments_end_with_code_1_and_the_reason(
    arguments: list[str], reason: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pose_node.ros.entry", "run", "--ros-args", *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "pose_node: error: ROS cannot start with these arguments: " in ended.stderr
    assert reason in ended.stderr
    assert "Traceback" not in ended.stderr


def test_cuda_that_is_not_there_is_an_error(
    start: Callable[..., Process], yolo11n_pose: Path
) -> None:
    torch = pytest.importorskip("torch", reason="torch missing")
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    process = start(f"model:={yolo11n_pose}", "device:=cuda")
    assert process.end() == 1
    assert "cannot configure" in process.output
    assert "CUDA" in process.output
    assert "Traceback" not in process.output
