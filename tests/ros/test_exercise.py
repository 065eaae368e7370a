"""The exercise counter over DDS: states, service, skeletons, parameters, pictures, the process."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from builtin_interfaces.msg import Time
from pose_node.msg import ExerciseState, Keypoint, PersonPose, PersonPoseArray, SkeletonInfo
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from pose_node import COCO17, Poses
from pose_node.errors import ExerciseError
from pose_node.imaging import encode_jpeg
from pose_node.ros.declared_parameters import to_markdown
from pose_node.ros.exercise import ExerciseNode, ExerciseParameters, main
from pose_node.ros.exercise_picture import INPUT, OUTPUT
from pose_node.ros.messages import to_compressed_image, to_image, to_pose_array, to_skeleton_info
from tests.test_exercise import person, poses

pytestmark = pytest.mark.ros

REPOSITORY = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 320, 240
PATIENCE = 3000  # looks, a hundred a second; not a time, which a halted machine would use up
CYCLE = (175, 100, 20, 100, 175)


def header(index: int) -> Header:
    """Of image number `index`, at 5 Hz."""
    sec, nanosec = divmod(10 * 10**9 + index * 200_000_000, 10**9)
    return Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id="front_optical_frame")


def array(index: int, people: Poses, skeleton: str = "coco17") -> PersonPoseArray:
    return to_pose_array(header(index), people, width=WIDTH, height=HEIGHT, skeleton=skeleton)


class Bench:
    """An exercise counter and its peer, spun by the test."""

    def __init__(self, rclpy: Any, **parameters: Any) -> None:
        given = {"exercises": ["bicep_curl"], **parameters}
        self.node = ExerciseNode(
            parameter_overrides=[Parameter(name, value=value) for name, value in given.items()]
        )
        self.peer = rclpy.create_node("peer")
        self.received: dict[str, list[Any]] = {}
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._executor.add_node(self.peer)
        self.poses = self.peer.create_publisher(PersonPoseArray, "poses", 50)
        self.states: list[ExerciseState] = self.listen(ExerciseState, "exercise_state")
        self.until(lambda: self.poses.get_subscription_count() == 1)
        self.until(lambda: self.peer.count_publishers("exercise_state") == 1)

    def listen(self, kind: type, topic: str) -> list[Any]:
        found = self.received.setdefault(topic, [])
        self.peer.create_subscription(kind, topic, found.append, 50)
        return found

    def until(self, done: Callable[[], bool]) -> None:
        for _ in range(PATIENCE):
            if done():
                return
            self._executor.spin_once(timeout_sec=0.01)
        raise AssertionError("it did not come")

    def send(self, *messages: PersonPoseArray) -> list[ExerciseState]:
        """Publish people, one message after the other, and wait for their states."""
        for message in messages:
            count = len(self.states)
            self.poses.publish(message)
            self.until(lambda count=count: len(self.states) >= count + 2)  # type: ignore[misc]
        return self.states

    def call(self, kind: type, name: str, request: Any) -> Any:
        client = self.peer.create_client(kind, f"exercise_counter/{name}")
        self.until(client.service_is_ready)
        future = client.call_async(request)
        self.until(future.done)
        return future.result()

    def set(self, name: str, value: Any) -> Any:
        change = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[change])
        (result,) = self.call(SetParameters, "set_parameters", request).results
        return result

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        self.peer.destroy_node()


@pytest.fixture
def make_bench(ros: Any) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**parameters: Any) -> Bench:
        made.append(Bench(ros, **parameters))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


def curls(count: int, start: int = 0, track_id: int = 1) -> Sequence[PersonPoseArray]:
    angles = [*CYCLE[:-1] * count, CYCLE[-1]]
    return [
        array(start + index, poses([person(angle, 175)], [track_id]))
        for index, angle in enumerate(angles)
    ]


# --- States -------------------------------------------------------------------------------------


def test_states_of_one_person(bench: Bench, read_log: Callable[[], str]) -> None:
    messages = curls(2, track_id=8)
    states = bench.send(*messages)
    left, right = states[0::2], states[1::2]
    assert [state.repetitions for state in left] == [0, 0, 0, 0, 1, 1, 1, 1, 2]
    assert [state.phase for state in left[:5]] == ["down", "rising", "up", "falling", "down"]
    assert [state.header for state in left] == [message.header for message in messages]
    first, middle = left[0], left[2]
    assert (first.track_id, first.exercise, first.side) == (8, "bicep_curl", "left")
    assert (first.phase, middle.phase) == (ExerciseState.PHASE_DOWN, ExerciseState.PHASE_UP)
    assert (first.angle, middle.angle) == pytest.approx((175, 20), abs=0.01)
    assert (first.progress, middle.progress) == (0, 1)
    assert {(state.side, state.repetitions) for state in right} == {("right", 0)}
    log = read_log()
    assert log.count("person 8: bicep_curl left") == 2


def test_joints_that_are_not_seen(bench: Bench) -> None:
    hidden = person(100)
    hidden[9, 2] = 0.2
    left, right = bench.send(array(0, poses([hidden])))
    assert math.isnan(left.angle)
    assert left.phase == ExerciseState.PHASE_UNKNOWN
    assert right.angle == pytest.approx(180, abs=0.01)


def test_messages_without_stamps_count_by_time_of_arrival(make_bench: Any) -> None:
    bench = make_bench(forget_after=3600.0)
    for message in curls(1):
        message.header.stamp = Time()
        states = bench.send(message)
    assert states[-2].phase == "down"  # too fast to be a repetition, but followed all the same


def test_reset(bench: Bench) -> None:
    assert bench.call(Trigger, "reset", Trigger.Request()).message == "counts of 0 people reset"
    assert bench.send(*curls(1))[-2].repetitions == 1
    response = bench.call(Trigger, "reset", Trigger.Request())
    assert (response.success, response.message) == (True, "counts of 1 person reset")
    assert bench.send(*curls(1, start=20))[-2].repetitions == 1


def test_people_that_nobody_tracks(bench: Bench, read_log: Callable[[], str]) -> None:
    for index in range(3):
        bench.poses.publish(array(index, poses([person(), person()], [-1, -1])))
    states = bench.send(*curls(1, start=3, track_id=-1))
    assert [state.track_id for state in states] == [-1] * 10
    assert states[-2].repetitions == 1
    log = read_log()
    assert log.count("2 people in view have no track id") == 1
    assert "person: bicep_curl left 1" in log


def test_broken_messages_are_left_out(bench: Bench, read_log: Callable[[], str]) -> None:
    ragged = array(0, poses([person(), person()], [1, 2]))
    ragged.people[1].keypoints = [Keypoint()] * 3
    short = PersonPoseArray(
        header=header(0), skeleton="coco17", people=[PersonPose(keypoints=[Keypoint()] * 3)]
    )
    for message in (ragged, short, PersonPoseArray(header=header(0), skeleton="coco17")):
        bench.poses.publish(message)
    assert len(bench.send(*curls(1, start=1))) == 10
    assert read_log().count("people that cannot be used are left out") == 1


# --- Skeletons ----------------------------------------------------------------------------------


def latched_skeleton(bench: Bench, info: SkeletonInfo) -> None:
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    bench.peer.create_publisher(SkeletonInfo, "skeleton_info", latched).publish(info)


def test_skeleton_that_is_not_built_in(bench: Bench) -> None:
    info = to_skeleton_info(COCO17, Time())
    info.name = "mine"
    latched_skeleton(bench, info)
    topics = {subscription.topic_name for subscription in bench.node.subscriptions}
    assert "/poses" in topics
    assert "/skeleton_info" not in topics  # only where it is needed
    bench.poses.publish(array(0, poses([person()]), skeleton="mine"))
    bench.until(lambda: "mine" in bench.node._skeletons)
    bench.send(array(1, poses([person()]), skeleton="mine"))


def test_skeletons_that_do_not_suffice(bench: Bench, read_log: Callable[[], str]) -> None:
    info = to_skeleton_info(COCO17, Time())
    info.name, info.keypoint_names = "mine", [f"point_{index}" for index in range(17)]
    latched_skeleton(bench, info)

    def says(text: str) -> bool:
        bench.poses.publish(array(0, poses([person()]), skeleton="mine"))
        return text in read_log()

    bench.until(lambda: says("'bicep_curl' needs the keypoint left_shoulder or shoulder"))
    info.flip = [3, 4]
    latched_skeleton(bench, info)
    bench.until(lambda: says("skeleton refused: skeleton 'mine' has 17 keypoint names"))
    assert bench.states == []
    bench.send(array(1, poses([person()])))  # another camera's, which is built in


# --- Parameters ---------------------------------------------------------------------------------


def test_parameters_change_live(bench: Bench, tmp_path: Path) -> None:
    bench.send(*curls(1))
    assert bench.set("forget_after", 30.0).successful
    assert bench.send(*curls(1, start=10))[-2].repetitions == 2
    text = (REPOSITORY / "config" / "exercises.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("bicep_curl", "my_curl"))
    assert bench.set("definitions", str(tmp_path / "mine.yaml")).successful
    assert bench.set("exercises", ["my_curl"]).successful
    state = bench.send(*curls(1, start=20))[-2]
    assert (state.exercise, state.repetitions) == ("my_curl", 1)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("exercises", ["lunge"], "expected exercises among bicep_curl, "),
        ("exercises", [], "exercises must be names of exercises, at least one"),
        ("exercises", "squat", "exercises must be a list of str, got 'squat'"),
        ("definitions", "/nowhere.yaml", "/nowhere.yaml: cannot be read"),
        ("forget_after", 0.0, ""),
        ("image_transport", "compressed", ""),
    ],
)
def test_wrong_parameters_are_refused(bench: Bench, name: str, value: Any, reason: str) -> None:
    result = bench.set(name, value)
    assert not result.successful
    assert reason in result.reason
    assert bench.node.parameters.exercises == ("bicep_curl",)


def test_node_with_wrong_parameters_does_not_start(ros: Any) -> None:
    with pytest.raises(ExerciseError, match="expected exercises among"):
        ExerciseNode(parameter_overrides=[Parameter("exercises", value=["lunge"])])


def test_the_documented_parameters_are_those_of_the_node() -> None:
    assert to_markdown(ExerciseParameters) in (REPOSITORY / "docs/exercise.md").read_text()


# --- Pictures -----------------------------------------------------------------------------------

GREY = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)


def look(bench: Bench, kind: type = Image, suffix: str = "") -> tuple[list[Any], Any]:
    """Subscribe to the pictures; their list, and a publisher of images that the node hears."""
    pictures = bench.listen(kind, OUTPUT + suffix)
    images = bench.peer.create_publisher(kind, INPUT + suffix, 1)
    bench.until(lambda: bench.peer.count_publishers(OUTPUT + suffix) == 1)

    def hears() -> bool:
        bench.poses.publish(array(0, Poses.empty(17)))  # the node looks around with each message
        return bench.node._picture.is_listening and images.get_subscription_count() == 1

    bench.until(hears)
    return pictures, images


def test_no_image_is_received_while_nobody_looks(bench: Bench) -> None:
    bench.send(*curls(1))
    topics = {subscription.topic_name for subscription in bench.node.subscriptions}
    assert not {topic for topic in topics if "image" in topic}
    pictures, _ = look(bench)
    (subscription,) = (s for s in bench.peer.subscriptions if s.topic_name == f"/{OUTPUT}")
    bench.peer.destroy_subscription(subscription)

    def stops() -> bool:
        bench.poses.publish(array(20, Poses.empty(17)))
        return not bench.node._picture.is_listening

    bench.until(stops)
    assert pictures == []


@pytest.mark.parametrize("image_first", [True, False])
def test_picture_of_the_image_with_the_same_stamp(bench: Bench, image_first: bool) -> None:
    pictures, images = look(bench)
    image = to_image(header(9), GREY)
    if image_first:
        images.publish(to_image(header(8), GREY))
        bench.until(lambda: len(bench.node._picture._images) == 1)
        images.publish(image)
        bench.until(
            lambda: header(9).stamp.nanosec in {k % 10**9 for k in bench.node._picture._images}
        )
        bench.send(array(9, poses([person()])))
    else:
        bench.send(array(9, poses([person()])))
        images.publish(image)
    bench.until(lambda: bool(pictures))
    (picture,) = pictures
    assert picture.header == header(9)
    assert (picture.width, picture.height, picture.encoding) == (WIDTH, HEIGHT, "bgr8")
    pixels = np.frombuffer(picture.data, np.uint8).reshape(HEIGHT, WIDTH, 3)
    assert 500 < (pixels != 40).any(axis=2).sum() < WIDTH * HEIGHT / 2


def test_compressed_pictures_and_images_of_another_size(make_bench: Any) -> None:
    bench = make_bench(image_transport="compressed")
    pictures, images = look(bench, CompressedImage, "/compressed")
    half = np.full((HEIGHT // 2, WIDTH // 2, 3), 40, np.uint8)
    bench.send(array(9, poses([person()])))
    images.publish(to_compressed_image(header(9), encode_jpeg(half, 90)))
    bench.until(lambda: bool(pictures))
    picture = cv2.imdecode(np.frombuffer(pictures[0].data, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == half.shape
    assert np.ptp(picture) > 100


def test_images_that_cannot_be_used(bench: Bench, read_log: Callable[[], str]) -> None:
    pictures, images = look(bench)
    wrong = to_image(header(9), GREY)
    wrong.encoding = "smell8"
    bench.send(array(9, poses([person()])))
    images.publish(wrong)
    bench.until(lambda: "image refused: " in read_log())
    bench.send(array(10, poses([person()])))
    images.publish(to_image(header(10), GREY))
    bench.until(lambda: bool(pictures))
    assert "smell8" in read_log()


def test_what_finds_no_partner_does_not_pile_up(bench: Bench) -> None:
    _, images = look(bench)
    bench.send(*(array(index, poses([person()])) for index in range(1, 90)))
    assert len(bench.node._picture._people) == 64
    for index in range(200, 212):
        images.publish(to_image(header(index), GREY))
        stamp = 10 * 10**9 + index * 200_000_000
        bench.until(lambda stamp=stamp: stamp in bench.node._picture._images)  # type: ignore[misc]
    assert len(bench.node._picture._images) == 8


# --- The process --------------------------------------------------------------------------------


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "pose_node", "exercise", *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_process_ends_cleanly(number: int) -> None:
    process = start("bicep_curl", "squat", "--ros-args", "-r", "poses:=/front/poses")
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    while lines[-1] and "counting" not in lines[-1]:
        lines.append(process.stdout.readline())
    assert "counting bicep_curl, squat of the people on /front/poses" in lines[-1]
    process.send_signal(number)
    rest, _ = process.communicate(timeout=30)
    assert (process.returncode, rest) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["lunge"],
            "expected exercises among bicep_curl, jumping_jack, shoulder_press, squat, ",
        ),
        (["--definitions", "/nowhere.yaml"], "/nowhere.yaml: cannot be read"),
        (["--ros-args", "-p", "forget_after:=0.0"], "forget_after"),
        (["--ros-args", "-p"], "ROS cannot start with these arguments"),
    ],
)
def test_what_cannot_start_says_why(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        assert main(arguments) == 1
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), handlers, strict=True):
            signal.signal(number, handler)
    error = capsys.readouterr().err
    assert error.startswith("pose-node exercise: error: ")
    assert said in error


def test_list(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = (REPOSITORY / "config" / "exercises.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("squat", "my_squat"))
    assert main(["--list", "--definitions", str(tmp_path / "mine.yaml")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "squat: either, from up; hip-knee-ankle up 160, down 120" in lines
    assert "my_squat: either, from up; hip-knee-ankle up 160, down 120" in lines
