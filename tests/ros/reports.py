"""Reports of a node, a camera and its depth that work well, for tests to change."""

from __future__ import annotations

from pose_node.ros.health import NodeReport
from pose_node.ros.statistics import CameraReport, DepthReport, StageReport

STAGES = StageReport({}, failures=0, last_failure="")
NODE = NodeReport(
    state="active",
    enabled=True,
    model="yolo11n-pose",
    device="cuda:0",
    device_description="NVIDIA T4",
    backend="torch",
    half=True,
    device_warning="",
    configure_error="",
    device_fault="",
    batch_limit=None,
    stages=STAGES,
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
    rate_replaced=1.0,
    rate_lost=0.0,
    age=[40.0, 61.27],
    arrival=[5.0, 6.0],
    wait=[1.0, 2.0],
    waiting=0.02,
    usual_waiting=0.05,
    silent=False,
    jumps=0,
    last_jump=0.0,
    unstamped=False,
    failure="",
    partial_failure="",
    settled=True,
)
DEPTH = DepthReport(
    received=50,
    matched=40,
    missed=2,
    refused=1,
    last_error="",
    last_refusal="not depth",
    rate_in=15.04,
    rate_missed=0.0,
    rate_refused=0.0,
)
