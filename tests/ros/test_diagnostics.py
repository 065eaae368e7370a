"""What supervisors read. The level and the words of each situation are in test_health.py."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus

from pose_node.ros.diagnostics import Judged, judge, to_diagnostics, to_summary
from pose_node.ros.health import NodeReport
from pose_node.ros.statistics import CameraReport, DepthReport, StageReport
from tests.ros import reports
from tests.ros.reports import CAMERA, DEPTH

pytestmark = pytest.mark.ros

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
STALE = DiagnosticStatus.STALE
TOPIC = "/front/image_raw"
DEPTH_TOPIC = "/front/depth/image_raw"
NODE = dataclasses.replace(
    reports.NODE, stages=StageReport({"network": [12.34, 15.0]}, failures=0, last_failure="")
)


def tell(
    node: NodeReport = NODE, camera: CameraReport = CAMERA, depth: DepthReport = DEPTH
) -> list[Judged]:
    return judge("/pose_node", node, {TOPIC: camera}, {DEPTH_TOPIC: depth})


def statuses(node: NodeReport, camera: CameraReport) -> list[DiagnosticStatus]:
    return list(to_diagnostics(Time(sec=5), tell(node, camera), "NVIDIA T4").status)


def depth_status(node: NodeReport, depth: DepthReport) -> DiagnosticStatus:
    return to_diagnostics(Time(sec=5), tell(node, depth=depth), "NVIDIA T4").status[2]


def values(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


@pytest.mark.parametrize(
    ("node", "camera", "level", "message"),
    [
        ({}, {}, OK, "yolo11n-pose on cuda:0"),
        ({}, {"unstamped": True}, WARN, f"{TOPIC}: images have no stamp (0)"),
        ({"device_warning": "no CUDA"}, {"unstamped": True}, WARN, "no CUDA"),
        ({"device_warning": "no CUDA"}, {"silent": True}, STALE, f"{TOPIC}: no images any more"),
        ({"device_fault": "it is gone"}, {"silent": True}, ERROR, "it is gone"),
        ({"state": "inactive"}, {"silent": True}, OK, "inactive: nothing is processed"),
    ],
)
def test_summary_is_the_worst(
    node: dict[str, Any], camera: dict[str, Any], level: bytes, message: str
) -> None:
    judged = tell(dataclasses.replace(NODE, **node), dataclasses.replace(CAMERA, **camera))
    summary = to_summary("/pose_node", judged, "NVIDIA T4")
    assert (summary.level, summary.name) == (level, "/pose_node")
    assert summary.message.startswith(message)
    assert summary.hardware_id == "NVIDIA T4"


def test_summary_has_all_parts() -> None:
    silent = dataclasses.replace(CAMERA, silent=True)
    assert values(to_summary("/pose_node", tell(camera=silent), "")) == {
        "condition": "no images any more",
        "node": "OK: yolo11n-pose on cuda:0",
        TOPIC: f"STALE: no images any more: see what publishes {TOPIC}",
        DEPTH_TOPIC: "OK: 15.0 depth images/s",
    }


def test_values_of_depth() -> None:
    assert values(depth_status(NODE, dataclasses.replace(DEPTH, last_error="nothing near"))) == {
        "condition": "working",
        "input rate Hz": "15.0",
        "received": "50",
        "matched": "40",
        "missed": "2",
        "refused": "1",
        "last error": "nothing near",
    }


def test_names_hardware_and_stamp() -> None:
    judged = judge(
        "/robot/pose_node", NODE, {"/a/image_raw": CAMERA, TOPIC: CAMERA}, {DEPTH_TOPIC: DEPTH}
    )
    array = to_diagnostics(Time(sec=5, nanosec=6), judged, "NVIDIA T4")
    assert array.header.stamp == Time(sec=5, nanosec=6)
    assert [status.name for status in array.status] == [
        "/robot/pose_node: node",
        "/robot/pose_node: /a/image_raw",
        f"/robot/pose_node: {TOPIC}",
        f"/robot/pose_node: {DEPTH_TOPIC}",
    ]
    assert {status.hardware_id for status in array.status} == {"NVIDIA T4"}


def test_values_of_the_node() -> None:
    stages = dataclasses.replace(NODE.stages, failures=3, last_failure="no memory")
    node = dataclasses.replace(NODE, stages=stages, batch_limit=2)
    assert values(statuses(node, CAMERA)[0]) == {
        "condition": "small batches",
        "state": "active",
        "enabled": "true",
        "model": "yolo11n-pose",
        "device": "cuda:0",
        "device description": "NVIDIA T4",
        "backend": "torch",
        "half": "true",
        "network ms p50/p95": "12.3 / 15.0",
        "images at once": "2",
        "failures": "3",
        "last failure": "no memory",
    }


def test_values_of_a_camera() -> None:
    camera = dataclasses.replace(
        CAMERA, refused={"zero area": 2, "bad size": 1}, last_error="0x0", age=None
    )
    assert values(statuses(NODE, camera)[1]) == {
        "condition": "working",
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
