"""What supervisors read: the level and the words of each situation."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus

from pose_node.ros.diagnostics import NodeReport, to_diagnostics
from pose_node.ros.statistics import CameraReport, DepthReport

pytestmark = pytest.mark.ros

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
TOPIC = "/front/image_raw"
NODE = NodeReport(
    state="active",
    enabled=True,
    model="yolo11n-pose",
    device="cuda:0",
    device_description="NVIDIA T4",
    half=True,
    device_warning="",
    stages_ms={"network": [12.34, 15.0]},
    failing=False,
    failures=0,
    last_failure="",
)
CAMERA = CameraReport(
    received=100,
    published=90,
    replaced=8,
    lost=2,
    refused={},
    last_error="",
    rate_in=30.0,
    rate_out=28.04,
    rate_refused=0.0,
    age=[40.0, 61.27],
    arrival=[5.0, 6.0],
    wait=[1.0, 2.0],
    silent=False,
)
DEPTH_TOPIC = "/front/depth/image_raw"
DEPTH = DepthReport(
    received=50, matched=40, missed=2, refused=1, last_error="", rate_in=15.04, rate_missed=0.0
)


def statuses(node: NodeReport, camera: CameraReport) -> tuple[DiagnosticStatus, DiagnosticStatus]:
    first, second = to_diagnostics(Time(sec=5), "/pose_node", node, {TOPIC: camera}, {}).status
    return first, second


def depth_status(node: NodeReport, depth: DepthReport) -> DiagnosticStatus:
    _, status = to_diagnostics(Time(sec=5), "/pose_node", node, {}, {DEPTH_TOPIC: depth}).status
    return status


def values(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


@pytest.mark.parametrize(
    ("changes", "level", "message"),
    [
        ({}, OK, "yolo11n-pose on cuda:0"),
        ({"enabled": False}, OK, "disabled by the service ~/enable"),
        ({"state": "inactive"}, OK, "inactive: nothing is processed"),
        ({"state": "unconfigured"}, OK, "unconfigured: nothing is processed"),
        ({"device_warning": "no CUDA"}, WARN, "no CUDA"),
        ({"failing": True, "last_failure": "no memory"}, ERROR, "images fail: no memory"),
        (
            {"failing": True, "last_failure": "no memory", "device_warning": "no CUDA"},
            ERROR,
            "images fail: no memory",
        ),
        ({"failures": 3, "last_failure": "no memory"}, OK, "yolo11n-pose on cuda:0"),
    ],
)
def test_node(changes: dict[str, object], level: bytes, message: str) -> None:
    status, _ = statuses(dataclasses.replace(NODE, **changes), CAMERA)
    assert (status.level, status.message) == (level, message)


@pytest.mark.parametrize(
    ("changes", "level", "message"),
    [
        ({}, OK, "28.0 images/s"),
        ({"silent": True}, WARN, f"no images any more: see what publishes {TOPIC}"),
        ({"silent": True, "received": 0}, WARN, f"no images yet: see what publishes {TOPIC}"),
        ({"rate_out": 0.0}, WARN, "images arrive, but none was processed yet"),
        (
            {"rate_out": 0.0, "rate_refused": 30.0, "refused": {"zero area": 9}, "last_error": "0"},
            ERROR,
            "all images are refused: 0",
        ),
        (
            {"rate_refused": 0.1, "refused": {"zero area": 2, "bad size": 1}, "last_error": "0x0"},
            WARN,
            "3 refused, last: 0x0",
        ),
        ({"refused": {"zero area": 2}, "last_error": "long ago"}, OK, "28.0 images/s"),
    ],
)
def test_camera(changes: dict[str, object], level: bytes, message: str) -> None:
    _, status = statuses(NODE, dataclasses.replace(CAMERA, **changes))
    assert (status.level, status.message) == (level, message)


@pytest.mark.parametrize("change", [{"enabled": False}, {"state": "inactive"}])
def test_a_camera_that_is_not_processed_is_no_fault(change: dict[str, object]) -> None:
    _, status = statuses(
        dataclasses.replace(NODE, **change), dataclasses.replace(CAMERA, silent=True)
    )
    assert (status.level, status.message) == (OK, "not processed")


@pytest.mark.parametrize(
    ("changes", "level", "message"),
    [
        ({}, OK, "15.0 depth images/s"),
        ({"rate_in": 0.0}, WARN, f"no depth images any more: see what publishes {DEPTH_TOPIC}"),
        (
            {"rate_in": 0.0, "received": 0},
            WARN,
            f"no depth images yet: see what publishes {DEPTH_TOPIC}",
        ),
        (
            {"rate_missed": 0.1, "last_error": "nothing near"},
            WARN,
            "2 images without depth, last: nothing near",
        ),
        ({"last_error": "long ago"}, OK, "15.0 depth images/s"),
    ],
)
def test_depth(changes: dict[str, object], level: bytes, message: str) -> None:
    status = depth_status(NODE, dataclasses.replace(DEPTH, **changes))
    assert (status.level, status.message) == (level, message)


def test_depth_that_is_not_processed_is_no_fault() -> None:
    status = depth_status(
        dataclasses.replace(NODE, state="inactive"), dataclasses.replace(DEPTH, rate_in=0.0)
    )
    assert (status.level, status.message) == (OK, "not processed")


def test_values_of_depth() -> None:
    assert values(depth_status(NODE, dataclasses.replace(DEPTH, last_error="nothing near"))) == {
        "input rate Hz": "15.0",
        "received": "50",
        "matched": "40",
        "missed": "2",
        "refused": "1",
        "last error": "nothing near",
    }


def test_names_hardware_and_stamp() -> None:
    array = to_diagnostics(
        Time(sec=5, nanosec=6),
        "/robot/pose_node",
        NODE,
        {"/a/image_raw": CAMERA, TOPIC: CAMERA},
        {DEPTH_TOPIC: DEPTH},
    )
    assert array.header.stamp == Time(sec=5, nanosec=6)
    assert [status.name for status in array.status] == [
        "/robot/pose_node: node",
        "/robot/pose_node: /a/image_raw",
        f"/robot/pose_node: {TOPIC}",
        f"/robot/pose_node: {DEPTH_TOPIC}",
    ]
    assert {status.hardware_id for status in array.status} == {"NVIDIA T4"}


def test_values_of_the_node() -> None:
    node = dataclasses.replace(NODE, failures=3, last_failure="no memory")
    assert values(statuses(node, CAMERA)[0]) == {
        "state": "active",
        "enabled": "true",
        "model": "yolo11n-pose",
        "device": "cuda:0",
        "device description": "NVIDIA T4",
        "half": "true",
        "network ms p50/p95": "12.3 / 15.0",
        "failures": "3",
        "last failure": "no memory",
    }


def test_values_of_a_camera() -> None:
    camera = dataclasses.replace(
        CAMERA, refused={"zero area": 2, "bad size": 1}, last_error="0x0", age=None
    )
    assert values(statuses(NODE, camera)[1]) == {
        "input rate Hz": "30.0",
        "output rate Hz": "28.0",
        "received": "100",
        "published": "90",
        "replaced": "8",
        "lost": "2",
        "refused": "3",
        "refused: bad size": "1",
        "refused: zero area": "2",
        "arrival age ms p50/p95": "5.0 / 6.0",
        "wait ms p50/p95": "1.0 / 2.0",
        "age ms p50/p95": "-",
        "last error": "0x0",
    }
