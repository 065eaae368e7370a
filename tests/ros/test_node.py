"""The node over real DDS with a fake network: from image to people, services, parameters.

What images it takes is in test_node_images.py, its life in test_node_lifecycle.py.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from pose_node.msg import PersonPoseArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from pose_node.drawing import draw_poses
from pose_node.errors import PoseNodeError
from pose_node.ros import camera_topics
from pose_node.ros.messages import to_poses
from tests.ros.node_bench import (
    HEIGHT,
    WIDTH,
    Bench,
    FakePipeline,
    fresh_image,
    header,
    image,
    picture,
)

pytestmark = pytest.mark.ros


def drain(messages: queue.Queue[Any]) -> list[Any]:
    found = []
    while not messages.empty():
        found.append(messages.get_nowait())
    return found


# From image to people


def test_people_of_an_image(bench: Bench) -> None:
    message = bench.ask(image())
    expected = bench.pipeline.poses()
    assert message.header == image().header
    assert (message.image_width, message.image_height) == (WIDTH, HEIGHT)
    assert message.skeleton == "coco17"
    people = to_poses(message)
    for name in ("boxes_xyxy", "scores", "keypoints", "ids"):
        np.testing.assert_array_equal(getattr(people, name), getattr(expected, name))


@pytest.mark.parametrize(
    "given",
    [
        Header(stamp=Time(sec=1_700_000_000, nanosec=999_999_999), frame_id="front_optical_frame"),
        Header(stamp=Time(sec=2**31 - 1, nanosec=1), frame_id="камера/光学_🎥"),
        Header(stamp=Time(sec=-5, nanosec=3), frame_id=""),
        Header(stamp=Time(sec=0, nanosec=1), frame_id="a" * 1000),
    ],
)
def test_header_is_copied_to_every_output(bench: Bench, given: Header) -> None:
    annotated = bench.listen(Image, "image_annotated")
    jpeg = bench.listen(CompressedImage, "image_annotated/compressed")
    poses = bench.ask(image(header=given))
    for message in (poses, bench.get(annotated), bench.get(jpeg)):
        assert message.header == given


def test_nobody_is_an_answer(bench: Bench) -> None:
    bench.pipeline.count = 0
    message = bench.ask(image())
    assert list(message.people) == []
    assert message.header == image().header
    assert (message.image_width, message.image_height) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("num_keypoints", [1, 5, 26])
def test_all_keypoints_of_any_skeleton(
    make_bench: Callable[..., Bench], num_keypoints: int
) -> None:
    bench = make_bench(lambda parameters: FakePipeline(parameters, num_keypoints)).activate()
    message = bench.ask(image())
    assert [len(person.keypoints) for person in message.people] == [num_keypoints] * 2
    assert message.skeleton == f"keypoints{num_keypoints}"
    np.testing.assert_array_equal(to_poses(message).keypoints, bench.pipeline.poses().keypoints)


def test_the_newest_image_goes_first_and_what_it_replaces_is_counted(bench: Bench) -> None:
    poses = bench.listen(PersonPoseArray, "poses")
    bench.pipeline.gate.clear()
    bench.send(image(0))
    bench.get(bench.pipeline.entered)
    for number in (1, 2, 3):
        bench.send(image(number))
        bench.wait_for_value("received", str(number + 1))
    bench.pipeline.gate.set()
    answered = [bench.get(poses).header.stamp.sec for _ in range(2)]
    assert answered == [1_700_000_000, 1_700_000_003]
    bench.wait_for_value("published", "2")
    values = bench.values()
    assert (values["received"], values["replaced"]) == ("4", "2")
    assert poses.empty()


@pytest.mark.parametrize("offered", ["RELIABLE", "BEST_EFFORT"])
@pytest.mark.parametrize("asked", ["RELIABLE", "BEST_EFFORT"])
def test_any_quality_of_service(bench: Bench, offered: str, asked: str) -> None:
    poses = bench.listen(PersonPoseArray, "poses", reliability=asked)
    bench.until(lambda: bench.node.count_subscribers("poses") > 0)
    bench.send(image(), reliability=offered)
    assert bench.get(poses).header == image().header


# The annotated image


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """One item, the keypoint threshold, for every image that the node draws."""
    drawn: list[float] = []
    draw = camera_topics.draw_frame

    def count(*arguments: Any, keypoint_threshold: float) -> np.ndarray:
        drawn.append(keypoint_threshold)
        return draw(*arguments, keypoint_threshold=keypoint_threshold)

    monkeypatch.setattr(camera_topics, "draw_frame", count)
    return drawn


def test_nothing_is_drawn_without_subscribers(bench: Bench, drawings: list[float]) -> None:
    bench.ask(image(0))
    bench.ask(image(1))
    assert drawings == []


def test_annotated_image(bench: Bench, drawings: list[float]) -> None:
    annotated = bench.listen(Image, "image_annotated")
    bench.send(image(encoding="rgb8", data=picture()[:, :, ::-1].tobytes()))
    message = bench.get(annotated)
    assert (message.encoding, message.width, message.height) == ("bgr8", WIDTH, HEIGHT)
    drawn = np.frombuffer(message.data, np.uint8).reshape(HEIGHT, message.step)[:, : 3 * WIDTH]
    engine = bench.pipeline.engine
    expected = draw_poses(picture(), bench.pipeline.poses(), engine.skeleton)
    np.testing.assert_array_equal(drawn.reshape(HEIGHT, WIDTH, 3), expected)
    assert (expected != picture()).any()
    assert drawings == [0.5]


def test_annotated_jpeg_alone(bench: Bench, drawings: list[float]) -> None:
    bench.pipeline.count = 0
    data = np.full((HEIGHT, WIDTH, 3), (200, 120, 40), np.uint8)
    jpeg = bench.listen(CompressedImage, "image_annotated/compressed")
    bench.send(image(data=data.tobytes()))
    message = bench.get(jpeg)
    assert message.format == "bgr8; jpeg compressed bgr8"
    decoded = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    np.testing.assert_allclose(decoded.astype(int), data, atol=6)
    assert len(drawings) == 1


def test_drawing_parameters_are_live(bench: Bench, drawings: list[float]) -> None:
    jpeg = bench.listen(CompressedImage, "image_annotated/compressed")
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8).tobytes()
    sizes = []
    for quality, threshold in ((100, 0.25), (1, 0.75)):
        results = bench.set_parameters(
            annotated_jpeg_quality=quality, draw_keypoint_threshold=threshold
        )
        assert all(result.successful for result in results)
        bench.send(image(data=noise))
        sizes.append(len(bench.get(jpeg).data))
    assert drawings == [0.25, 0.75]
    assert sizes[1] < 0.7 * sizes[0]


# Failures of the network


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            PoseNodeError("the device is gone"),
            "an image could not be processed: the device is gone",
        ),
        (RuntimeError("odd shape"), "an image could not be processed: Traceback"),
    ],
)
def test_a_failure_is_logged_and_counted_and_the_next_image_is_answered(
    bench: Bench, error: Exception, line: str
) -> None:
    bench.pipeline.errors = [error]
    bench.send(fresh_image())
    assert bench.wait_for_log("could not be processed", "error").startswith(line)
    bench.wait_for_value("failures", "1", "node")
    status = bench.status()
    assert (status.level, status.message) == (DiagnosticStatus.ERROR, f"images fail: {error}")
    answered = fresh_image()
    assert bench.ask(answered).header == answered.header
    assert bench.values()["condition"] == "working"
    assert bench.status("node").level == DiagnosticStatus.OK
    assert bench.values("node")["last failure"] == str(error)


def test_what_fails_after_the_people_are_out_is_a_warning(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(*_: Any, **__: Any) -> None:
        raise ValueError("no such colour")

    monkeypatch.setattr("pose_node.ros.camera_topics.draw_frame", draw)
    annotated = bench.listen(Image, "image_annotated")
    bench.until(lambda: bench.is_heard("image_annotated"))
    bench.ask(fresh_image())
    bench.wait_for_value("condition", "outputs fail")
    status = bench.status()
    assert status.level == DiagnosticStatus.WARN
    assert status.message.endswith("not all that goes with them: no such colour")
    assert "no such colour" in bench.wait_for_log("what goes with people", "error")
    monkeypatch.undo()
    shown = fresh_image()
    assert bench.ask(shown).header == shown.header
    assert bench.get(annotated).header == shown.header
    bench.wait_for_value("condition", "working")


def test_the_failure_of_a_camera_is_its_own(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(cameras=["front", "rear"]).activate()
    bench.pipeline.errors = [PoseNodeError("odd")]
    bench.send(image(0), "front/image_raw")
    bench.wait_for_value("condition", "images fail", "/front/image_raw")
    answered = fresh_image()
    assert bench.ask(answered, "rear/image_raw").header == answered.header
    assert bench.values("/rear/image_raw")["condition"] == "working"
    assert bench.values("/front/image_raw")["condition"] == "images fail"


def test_repeated_failures_are_logged_once(bench: Bench) -> None:
    bench.pipeline.errors = [PoseNodeError("gone") for _ in range(3)]
    for number in range(3):
        bench.send(image(number))
        bench.wait_for_value("failures", str(number + 1), "node")
    bench.ask(image(3))
    assert bench.logs("error") == ["an image could not be processed: gone"]


# Several cameras


def test_cameras_have_their_topics_and_share_one_batch(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(cameras=["front", "arm/rear"]).activate()
    front, rear = (bench.listen(PersonPoseArray, f"{name}/poses") for name in ("front", "arm/rear"))
    bench.pipeline.gate.clear()
    bench.send(image(0), "front/image_raw")
    bench.get(bench.pipeline.entered)
    bench.send(image(1), "front/image_raw")
    bench.send(image(2), "arm/rear/image_raw")
    bench.wait_for_value("received", "2", "/front/image_raw")
    bench.wait_for_value("received", "1", "/arm/rear/image_raw")
    bench.pipeline.gate.set()
    assert [bench.get(front).header for _ in range(2)] == [image(0).header, image(1).header]
    assert bench.get(rear).header == image(2).header
    assert [sorted(batch) for batch in bench.pipeline.batches] == [["front"], ["arm/rear", "front"]]


def test_a_bad_camera_does_not_disturb_the_other(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(cameras=["front", "rear"]).activate()
    for number in range(3):
        bench.send(image(number, encoding="infrared"), "front/image_raw")
        good = fresh_image()
        assert bench.ask(good, "rear/image_raw").header == good.header
    bench.wait_for_value("refused: unknown encoding", "3", "/front/image_raw")
    assert bench.status("/front/image_raw").level == DiagnosticStatus.ERROR
    assert bench.status("/rear/image_raw").level == DiagnosticStatus.OK
    assert len(bench.logs("error")) == 1


# Services and parameters


def test_enable(bench: Bench) -> None:
    response = bench.enable(False)
    assert (response.success, response.message) == (True, "images are ignored")
    bench.send(image(0))
    bench.wait_for_value("received", "1")
    assert bench.status().message == "not processed"
    assert bench.status("node").message == "disabled by the service ~/enable"
    response = bench.enable(True)
    assert (response.success, response.message) == (True, "images are processed")
    assert bench.ask(image(1)).header == image(1).header
    assert bench.values()["published"] == "1"


def test_thresholds_reach_the_engine(bench: Bench) -> None:
    results = bench.set_parameters(score_threshold=0.75, iou_threshold=0.25, max_people=3)
    assert all(result.successful for result in results)
    engine = bench.pipeline.engine
    assert bench.pipeline.score_threshold == 0.75
    assert (engine.iou_threshold, engine.max_people) == (0.25, 3)
    assert bench.node.parameters.score_threshold == 0.75


def test_largest_image_is_live(bench: Bench) -> None:
    assert bench.set_parameters(max_image_pixels=WIDTH * HEIGHT - 1)[0].successful
    bench.send(image(0))
    bench.wait_for_value("refused: absurd size", "1")
    assert bench.set_parameters(max_image_pixels=WIDTH * HEIGHT)[0].successful
    assert bench.ask(image(1)).header == image(1).header


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "other"),
        ("device", "cpu"),
        ("half", True),
        ("image_size", 320),
        ("cameras", ["front"]),
        ("image_transport", "compressed"),
        ("auto_fetch", True),
    ],
)
def test_fixed_parameters_are_refused_while_active(bench: Bench, name: str, value: object) -> None:
    (result,) = bench.set_parameters(**{name: value})
    assert not result.successful
    assert result.reason == (
        f"{name} cannot change while the node is active: deactivate the node first, for example "
        "with `ros2 lifecycle set NODE deactivate`"
    )
    assert bench.ask(image()).header == image().header


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("score_threshold", 1.5, "1.5"),
        ("score_threshold", 1, "Wrong parameter type"),
        ("max_people", 0, "0"),
        ("image_size", 650, "650"),
        ("device", "tpu", "device must be auto, cpu, cuda or cuda:N, got 'tpu'"),
        ("cameras", "front", "cameras must be a list of str, got 'front'"),
        ("cameras", 5, "cameras must be a list of str, got 5"),
        ("cameras", [1, 2], "cameras must be "),
        ("autostart", False, "read-only"),
    ],
)
def test_wrong_values_are_refused_with_a_reason(
    bench: Bench, name: str, value: object, reason: str
) -> None:
    before = bench.node.parameters
    (result,) = bench.set_parameters(**{name: value})
    assert not result.successful
    assert reason in result.reason
    assert bench.node.parameters == before
    assert bench.ask(image()).header == image().header


def test_names_and_namespaces_can_be_remapped(make_bench: Callable[..., Bench]) -> None:
    arguments = ["--ros-args", "-r", "__ns:=/robot", "-r", "image_raw:=/zed/color"]
    bench = make_bench(arguments={"cli_args": arguments}).activate()
    poses = bench.listen(PersonPoseArray, "/robot/poses")
    bench.until(lambda: bench.node.count_subscribers("poses") > 0)
    bench.send(image(), "/zed/color")
    assert bench.get(poses).header == header()
    assert bench.status("/zed/color").name == "/robot/pose_node: /zed/color"


def test_remapping_the_image_takes_its_compressed_forms_along(
    make_bench: Callable[..., Bench],
) -> None:
    arguments = ["--ros-args", "-r", "image_raw:=/zed/color", "-r", "image_annotated:=/seen"]
    bench = make_bench(arguments={"cli_args": arguments}, image_transport="compressed").activate()
    assert bench.node.count_subscribers("/zed/color/compressed") == 1
    assert bench.node.count_publishers("/seen/compressed") == 1
    poses = bench.listen(PersonPoseArray, "poses")
    bench.until(lambda: bench.node.count_subscribers("poses") > 0)
    jpeg = cv2.imencode(".jpg", picture())[1].tobytes()
    sent = CompressedImage(header=header(), format="jpeg", data=jpeg)
    bench.send(sent, "/zed/color/compressed")
    assert bench.get(poses).header == header()


def test_tracking_is_switched_while_the_node_runs(bench: Bench) -> None:
    assert bench.pipeline.tracking is None
    assert bench.set_parameters(tracker=True, tracker_lost_seconds=9.0)[0].successful
    assert bench.pipeline.tracking.lost_seconds == 9.0
    (refused,) = bench.set_parameters(tracker_low_score=0.9)
    assert "must not fall" in refused.reason
    assert bench.set_parameters(tracker=False)[0].successful
    assert bench.pipeline.tracking is None


def test_whoever_was_followed_is_forgotten_when_the_node_stops(bench: Bench) -> None:
    before = bench.pipeline.forgotten
    bench.node.trigger_deactivate()
    assert bench.pipeline.forgotten == before + 1
