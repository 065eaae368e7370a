"""The life of the node: transitions, what is left after them, and the help at its start."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.srv import ChangeState
from pose_node.msg import SkeletonInfo
from rclpy.event_handler import UnsupportedEventTypeError
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String

from pose_node import COCO17
from pose_node.errors import CheckpointError, DeviceError
from pose_node.ros import start_up
from pose_node.ros.loading import load_pipeline
from pose_node.ros.parameters import NodeParameters
from tests.ros.node_bench import Bench, FakePipeline, image, raise_like

pytestmark = pytest.mark.ros

REPOSITORY = Path(__file__).resolve().parents[2]
MakeBench = Callable[..., Bench]


def own_topics(bench: Bench) -> set[str]:
    """Topics of images and people that the node has."""
    node = bench.node
    ours = {item.topic_name for item in (*node.publishers, *node.subscriptions)}
    common = ("/rosout", "/parameter_events", "/diagnostics", "/skeleton_info", "/pose_node/")
    return {topic for topic in ours if not topic.startswith(common)}


# Transitions


def test_topics_come_and_go(make_bench: MakeBench) -> None:
    bench = make_bench()
    outputs = {"/poses", "/image_annotated", "/image_annotated/compressed"}
    assert (bench.state, own_topics(bench)) == ("unconfigured", set())
    assert bench.status("node").message == "unconfigured: nothing is processed"
    assert bench.transition("configure") == ["SUCCESS"]
    assert (bench.state, own_topics(bench)) == ("inactive", outputs)
    assert bench.status("node").message == "inactive: nothing is processed"
    assert bench.transition("activate") == ["SUCCESS"]
    assert (bench.state, own_topics(bench)) == ("active", {*outputs, "/image_raw"})
    assert bench.ask(image()).header == image().header
    assert bench.transition("deactivate") == ["SUCCESS"]
    assert (bench.state, own_topics(bench)) == ("inactive", outputs)
    assert bench.transition("cleanup") == ["SUCCESS"]
    assert (bench.state, own_topics(bench)) == ("unconfigured", set())
    assert bench.node._device.loaded is None


def test_transitions_by_the_service(make_bench: MakeBench) -> None:
    bench = make_bench()
    for name in ("configure", "activate"):
        request = ChangeState.Request()
        request.transition.label = name
        assert bench._call(ChangeState, "pose_node/change_state", request).success
    assert bench.state == "active"
    assert bench.ask(image()).header == image().header


@pytest.mark.parametrize("before", [[], ["configure"], ["configure", "activate"]])
def test_shutdown_from_any_state(make_bench: MakeBench, before: list[str]) -> None:
    bench = make_bench()
    bench.transition(*before)
    assert bench.transition("shutdown") == ["SUCCESS"]
    assert (bench.state, own_topics(bench)) == ("finalized", set())
    assert not [thread for thread in threading.enumerate() if "pose worker" in thread.name]


def test_deactivating_finishes_the_image_at_hand(bench: Bench) -> None:
    bench.ask(image(0))
    bench.get(bench.pipeline.entered)
    bench.pipeline.gate.clear()
    bench.send(image(1))
    bench.get(bench.pipeline.entered)
    threading.Timer(0.2, bench.pipeline.gate.set).start()
    assert bench.transition("deactivate") == ["SUCCESS"]
    assert bench.get(bench._received["poses"]).header == image(1).header


def test_a_process_that_shall_end_does_not_wait_for_the_network(
    make_bench: Callable[..., Bench],
) -> None:
    loading, go_on = threading.Event(), threading.Event()

    def load(parameters: NodeParameters) -> FakePipeline:
        loading.set()
        go_on.wait()
        return FakePipeline(parameters)

    bench = make_bench(load, arguments={"interrupted": loading.is_set})
    assert bench.transition("configure") == ["FAILURE"]
    told = "cannot configure: the process was told to end while the network was loaded"
    assert (bench.logs("error"), told in bench.logs("info")) == ([], True)
    assert (bench.state, bench.node.is_loading) == ("unconfigured", True)
    go_on.set()
    bench.until(lambda: not bench.node.is_loading)


def test_a_device_that_hangs_is_left_behind(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pose_node.ros.node.STOP_SECONDS", 0.1)
    hanging = bench.pipeline
    hanging.gate.clear()
    bench.send(image(0))
    bench.get(hanging.entered)
    assert bench.transition("deactivate") != ["SUCCESS"]
    assert any("a thread that cannot be ended" in line for line in bench.logs("fatal"))
    assert (bench.state, bench.node.hangs) == ("unconfigured", True)
    bench.activate()
    assert bench.ask(image(1)).header == image(1).header
    hanging.gate.set()
    bench.until(lambda: not bench.node.hangs)
    assert bench.transition("deactivate") == ["SUCCESS"]


def test_skeleton_reaches_late_subscribers(bench: Bench) -> None:
    arrived: list[SkeletonInfo] = []
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    bench.peer.create_subscription(SkeletonInfo, "skeleton_info", arrived.append, latched)
    bench.until(lambda: bool(arrived))
    assert tuple(arrived[0].keypoint_names) == COCO17.keypoint_names
    assert arrived[0].header.stamp.sec > 0


@pytest.mark.parametrize(
    "error",
    [
        CheckpointError("model.pt: expected a YOLO-Pose checkpoint, got a text file"),
        DeviceError("device 'cuda' cannot be used"),
        ValueError("half precision needs an NVIDIA GPU"),
    ],
)
def test_what_cannot_be_loaded_is_said_and_can_be_tried_again(
    make_bench: MakeBench, error: Exception
) -> None:
    errors = [error]

    def load(parameters: NodeParameters) -> FakePipeline:
        if errors:
            raise_like(errors.pop())
        return FakePipeline(parameters)

    bench = make_bench(load)
    assert bench.transition("configure") == ["FAILURE"]
    assert bench.logs("error") == [f"cannot configure: {error}"]
    assert (bench.state, own_topics(bench)) == ("unconfigured", set())
    status = bench.status("node")
    assert (status.level, status.message) == (DiagnosticStatus.ERROR, f"no network: {error}")
    bench.activate()
    assert bench.ask(image()).header == image().header


def test_what_nobody_expects_while_loading_is_said_too(make_bench: MakeBench) -> None:
    errors = [RuntimeError("odd shape")]

    def load(parameters: NodeParameters) -> FakePipeline:
        if errors:
            raise_like(errors.pop())
        return FakePipeline(parameters)

    bench = make_bench(load)
    assert bench.transition("configure") == ["ERROR"]
    (line,) = bench.logs("error")
    assert line.startswith("cannot configure: Traceback")
    assert line.rstrip().endswith("RuntimeError: odd shape")
    assert bench.state == "unconfigured"
    bench.activate()
    assert bench.ask(image()).header == image().header


def test_no_such_model_is_said_by_the_real_loader(make_bench: MakeBench) -> None:
    bench = make_bench(load_pipeline, model="/no/such/model.pt", device="cpu")
    assert bench.transition("configure") == ["FAILURE"]
    (line,) = bench.logs("error")
    assert line.startswith("cannot configure: ")
    assert "/no/such/model.pt" in line
    assert "\n" not in line
    assert bench.state == "unconfigured"


def test_wrong_quality_of_service_override_is_said(make_bench: MakeBench) -> None:
    name = "qos_overrides./image_raw.subscription.reliability"
    bench = make_bench(**{name: "perhaps"})
    assert bench.transition("configure", "activate") == ["SUCCESS", "ERROR"]
    (line,) = bench.logs("error")
    assert line.startswith("cannot activate: ")
    assert "perhaps" in line or "reliability" in line
    assert bench.state == "unconfigured"


def test_quality_of_service_override_is_for_its_camera_alone(make_bench: MakeBench) -> None:
    name = "qos_overrides./front/image_raw.subscription.reliability"
    bench = make_bench(cameras=["front", "rear"], **{name: "reliable"}).activate()
    asked = {
        item.topic_name: item.qos_profile.reliability.name for item in bench.node.subscriptions
    }
    assert asked["/front/image_raw"] == "RELIABLE"
    assert asked["/rear/image_raw"] == "BEST_EFFORT"


# Parameters that are fixed while active


def test_fixed_parameters_take_effect_at_the_next_activation(make_bench: MakeBench) -> None:
    loaded: list[NodeParameters] = []

    def load(parameters: NodeParameters) -> FakePipeline:
        loaded.append(parameters)
        return FakePipeline(parameters)

    bench = make_bench(load).activate()
    bench.transition("deactivate", "activate")
    assert len(loaded) == 1
    bench.transition("deactivate")
    assert bench.set_parameters(model="other", cameras=["front"])[0].successful
    assert bench.transition("activate") == ["SUCCESS"]
    assert [parameters.model for parameters in loaded] == ["yolo11n-pose", "other"]
    assert bench.ask(image(), "front/image_raw").header == image().header
    assert "/poses" not in own_topics(bench)


def test_activation_that_cannot_load_starts_afresh(make_bench: MakeBench) -> None:
    def load(parameters: NodeParameters) -> FakePipeline:
        if parameters.model == "broken":
            raise CheckpointError("broken: damaged")
        return FakePipeline(parameters)

    bench = make_bench(load)
    bench.transition("configure")
    assert bench.set_parameters(model="broken")[0].successful
    assert bench.transition("activate") == ["ERROR"]
    assert bench.logs("error") == ["cannot configure: broken: damaged"]
    assert (bench.state, own_topics(bench)) == ("unconfigured", set())
    assert bench.set_parameters(model="good")[0].successful
    bench.activate()
    assert bench.ask(image()).header == image().header


def test_thresholds_set_while_unconfigured_are_loaded(make_bench: MakeBench) -> None:
    bench = make_bench()
    assert bench.set_parameters(score_threshold=0.75)[0].successful
    bench.activate()
    assert bench.pipeline.score_threshold == 0.75


# Nothing grows


def assert_lives_leave_nothing(some: int, more: int, *model: str, mebibytes: int) -> None:
    """After `more` lives there is no more than after `some`, but for so much memory."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.ros.many_lives", str(some), str(more), *model],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    )
    before, after = json.loads(ended.stdout)
    for key in ("python threads", "threads", "networks"):
        assert after[key] <= before[key], key
    assert after["MiB"] - before["MiB"] < mebibytes


def test_twenty_lives_leave_no_threads_and_no_memory() -> None:
    # The network and the images of a life are 28 MiB; one more may wait to be freed.
    assert_lives_leave_nothing(5, 20, mebibytes=70)


@pytest.mark.slow
def test_lives_of_the_real_network_leave_nothing(yolo11n_pose: Path) -> None:
    # The weights are 11 MiB.
    assert_lives_leave_nothing(3, 6, str(yolo11n_pose), mebibytes=35)


# Diagnostics


def test_period_of_the_diagnostics_is_live(make_bench: MakeBench) -> None:
    bench = make_bench(diagnostics_period=60.0)
    assert bench.set_parameters(diagnostics_period=0.1)[0].successful
    assert bench.status("node").name == "/pose_node: node"


def test_diagnostics_come_while_simulated_time_stands_still(make_bench: MakeBench) -> None:
    bench = make_bench(use_sim_time=True).activate()
    assert bench.ask(image()).header == image().header
    bench.wait_for_value("published", "1")
    assert bench.values("node")["state"] == "active"


def test_depth_is_reported(make_bench: MakeBench) -> None:
    bench = make_bench(depth=True).activate()
    status = bench.status("/depth/image_raw")
    assert status.level == DiagnosticStatus.STALE
    assert status.message.startswith("no depth images yet")


def test_values_of_the_diagnostics(bench: Bench) -> None:
    bench.ask(image())
    bench.wait_for_value("published", "1")
    values = bench.values("node")
    assert values["model"] == "yolo11n-pose"
    assert values["device"] == "cuda:0"
    assert values["network ms p50/p95"] == "20.0 / 20.0"
    assert {"publish ms p50/p95", "annotate ms p50/p95"} <= values.keys()
    camera = bench.values()
    assert float(camera["age ms p50/p95"].split(" / ")[0]) > 1e6  # the stamp is of 2023
    assert float(camera["wait ms p50/p95"].split(" / ")[0]) < 1e4
    assert bench.status("node").hardware_id == "a fake device"


@pytest.mark.parametrize(("gpu", "level"), [(True, "warn"), (False, "info")])
def test_running_on_the_cpu_is_said(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch, gpu: bool, level: str
) -> None:
    devices = pytest.importorskip("pose_node.inference.devices", reason="torch missing")
    monkeypatch.setattr(devices, "why_no_cuda", lambda: "the driver is too old")
    monkeypatch.setattr(devices, "is_cuda_expected", lambda: gpu)

    def load(parameters: NodeParameters) -> FakePipeline:
        pipeline = FakePipeline(parameters)
        pipeline.engine.device = "cpu"
        return pipeline

    bench = make_bench(load).activate()
    reason = "device: auto, running on the CPU: the driver is too old"
    assert reason in bench.logs(level)
    status = bench.status("node")
    if gpu:
        assert (status.level, status.message) == (DiagnosticStatus.WARN, reason)
    else:
        assert status.level == DiagnosticStatus.OK


# The help at the start, from the real graph


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict comes after one second."""
    monkeypatch.setattr(start_up, "SECONDS", 1.0)


NO_IMAGE = "no image on /image_raw (sensor_msgs/msg/Image) after 1 s: "


@pytest.mark.usefixtures("soon")
def test_no_publisher(make_bench: MakeBench) -> None:
    bench = make_bench().activate()
    assert bench.wait_for_log("no image on", "warn") == (
        f"{NO_IMAGE}nothing publishes it, nor such images on any other topic: start a camera"
    )
    status = bench.status()
    assert (status.level, status.message) == (
        DiagnosticStatus.STALE,
        "no images yet: see what publishes /image_raw",
    )


@pytest.mark.usefixtures("soon")
def test_images_on_another_topic(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.publisher(Image, "/camera/color/image_raw", wait=False)
    bench.activate()
    line = bench.wait_for_log("no image on", "warn")
    assert "such images are on /camera/color/image_raw: remap with `--ros-args -r " in line


@pytest.mark.usefixtures("soon")
def test_own_pictures_are_no_camera_under_any_name(make_bench: MakeBench) -> None:
    bench = make_bench(arguments={"cli_args": ["--ros-args", "-r", "image_annotated:=/seen"]})
    bench.activate()
    line = bench.wait_for_log("no image on", "warn")
    assert "nor such images on any other topic" in line


@pytest.mark.usefixtures("soon")
def test_only_compressed_images(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.publisher(CompressedImage, "/image_raw/compressed", wait=False)
    bench.activate()
    line = bench.wait_for_log("no image on", "warn")
    assert line.endswith("/image_raw/compressed is there: set image_transport: compressed")


@pytest.mark.usefixtures("soon")
def test_wrong_type(ros: Any, make_bench: MakeBench) -> None:
    # Fast DDS refuses two types of one topic in one participant: this publisher gets its own.
    other = ros.Context()
    ros.init(context=other, args=[])
    camera = ros.create_node("strange_camera", context=other)
    camera.create_publisher(String, "/image_raw", 1)
    try:
        bench = make_bench()
        bench.until(lambda: bench.node.count_publishers("/image_raw") > 0)
        bench.activate()
        line = bench.wait_for_log("no image on", "warn")
    finally:
        camera.destroy_node()
        ros.shutdown(context=other)
    assert line.startswith(f"{NO_IMAGE}it carries std_msgs/msg/String, which is no image: remap")


@pytest.mark.usefixtures("soon")
def test_silent_publisher(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.publisher(Image, "/image_raw", wait=False)
    bench.activate()
    line = bench.wait_for_log("no image on", "warn")
    assert line.startswith(f"{NO_IMAGE}peer publishes it, but nothing arrives; check")


@pytest.mark.usefixtures("soon")
def test_incompatible_quality_of_service(make_bench: MakeBench) -> None:
    name = "qos_overrides./image_raw.subscription.reliability"
    bench = make_bench(**{name: "reliable"})
    bench.publisher(Image, "/image_raw", reliability="BEST_EFFORT", wait=False)
    bench.activate()
    assert bench.wait_for_log("offers QoS", "warn") == (
        "a publisher on /image_raw offers QoS that does not match this node's subscription in "
        "reliability: none of its images arrives; remove the qos_overrides parameter of this node, "
        "or change reliability of the publisher"
    )
    line = bench.wait_for_log("no image on", "warn")
    assert line.startswith(f"{NO_IMAGE}the QoS of peer does not match this node's (best effort")


@pytest.mark.usefixtures("soon")
def test_silence_of_one_of_several_cameras(make_bench: MakeBench) -> None:
    bench = make_bench(cameras=["front", "rear"]).activate()
    bench.ask(image(), "front/image_raw")
    line = bench.wait_for_log("no image on", "warn")
    assert line.startswith("no image on /rear/image_raw ")
    assert len(bench.logs("warn")) == 1


@pytest.mark.usefixtures("soon")
def test_no_help_where_images_come(make_bench: MakeBench) -> None:
    bench = make_bench().activate()
    bench.ask(image())
    bench.until(bench.node._start_up_timer.is_canceled)
    assert bench.logs("warn") == []


@pytest.mark.usefixtures("soon")
def test_help_comes_after_every_activation(make_bench: MakeBench) -> None:
    bench = make_bench().activate()
    bench.ask(image())
    bench.until(bench.node._start_up_timer.is_canceled)
    bench.transition("deactivate", "activate")
    line = bench.wait_for_log("no image on", "warn")
    assert line.startswith(f"{NO_IMAGE}peer publishes it, but nothing arrives; check")


def test_a_middleware_that_does_not_count_what_it_loses(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench()
    create = bench.node.create_subscription

    def refuse_to_count(*arguments: Any, event_callbacks: Any, **others: Any) -> Any:
        if event_callbacks.message_lost is not None:
            raise UnsupportedEventTypeError("message lost")
        return create(*arguments, event_callbacks=event_callbacks, **others)

    monkeypatch.setattr(bench.node, "create_subscription", refuse_to_count)
    bench.activate()
    assert bench.ask(image()).header == image().header


def test_images_without_stamp_are_told_once_and_answered(bench: Bench) -> None:
    frame_id = "camera_optical_frame"
    for _ in range(3):
        message = bench.ask(image(header=Header(frame_id=frame_id)))
        assert message.header == Header(frame_id=frame_id)
    assert bench.logs("warn") == [
        "images on /image_raw have no stamp (0): results carry the same, so ages are unknown and "
        "nothing can be matched to them; let the camera driver set header.stamp"
    ]
    bench.wait_for_value("published", "3")
    assert bench.values()["age ms p50/p95"] == "-"


def test_close_leaves_no_thread(ros: Any, read_log: Callable[[], str]) -> None:
    bench = Bench(ros, read_log, {}).activate()
    assert [thread for thread in threading.enumerate() if "pose worker" in thread.name]
    bench.close()
    assert not [thread for thread in threading.enumerate() if "pose worker" in thread.name]
