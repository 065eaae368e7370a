"""The state of node and cameras as `diagnostic_msgs`, for people and for supervisors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from pose_node.ros.health import (
    NodeReport,
    Verdict,
    judge_camera,
    judge_depth,
    judge_node,
    severity,
)
from pose_node.ros.statistics import CameraReport, DepthReport


class Judged(NamedTuple):
    """A status and what it says, before it is put into a message."""

    name: str
    verdict: Verdict
    values: Mapping[str, str]


def judge(
    name: str,
    node: NodeReport,
    cameras: Mapping[str, CameraReport],
    depths: Mapping[str, DepthReport],
) -> list[Judged]:
    """One status for the node, one for each camera and one for the depth of each.

    Args:
        name: full name of the node.
        node: its state.
        cameras: the state of each camera by its image topic.
        depths: that of its depth by the topic of the depth images.
    """
    working = node.working
    judged = [Judged(f"{name}: node", judge_node(node), _node_values(node))]
    for topic, camera in cameras.items():
        verdict = judge_camera(camera, topic, working=working)
        judged.append(Judged(f"{name}: {topic}", verdict, _camera_values(camera)))
    for topic, depth in depths.items():
        verdict = judge_depth(depth, topic, working=working)
        judged.append(Judged(f"{name}: {topic}", verdict, _depth_values(depth)))
    return judged


def to_diagnostics(stamp: Time, judged: Sequence[Judged], hardware: str) -> DiagnosticArray:
    """What is published on /diagnostics.

    Args:
        stamp: now.
        judged: the statuses.
        hardware: the device in words.
    """
    statuses = [_status(item.name, item.verdict, item.values, hardware) for item in judged]
    return DiagnosticArray(header=Header(stamp=stamp), status=statuses)


def to_summary(name: str, judged: Sequence[Judged], hardware: str) -> DiagnosticStatus:
    """The worst of all statuses in one, with the verdict on each: what `~/status` tells.

    Args:
        name: full name of the node.
        judged: the statuses, at least one.
        hardware: the device in words.
    """
    of = max(judged, key=lambda item: severity(item.verdict.level))
    part = of.name.removeprefix(f"{name}: ")
    message = of.verdict.message if part == "node" else f"{part}: {of.verdict.message}"
    values = {
        item.name.removeprefix(f"{name}: "): f"{item.verdict.level.name}: {item.verdict.message}"
        for item in judged
    }
    return _status(name, of.verdict._replace(message=message), values, hardware)


def _node_values(node: NodeReport) -> dict[str, str]:
    stages = node.stages
    return {
        "state": node.state,
        "enabled": str(node.enabled).lower(),
        "model": node.model,
        "device": node.device,
        "device description": node.device_description,
        "backend": node.backend,
        "half": str(node.half).lower(),
        **{
            f"{stage} ms p50/p95": _milliseconds(values)
            for stage, values in stages.stages_ms.items()
        },
        "images at once": "any" if node.batch_limit is None else str(node.batch_limit),
        "failures": str(stages.failures),
        "last failure": stages.last_failure,
    }


def _camera_values(report: CameraReport) -> dict[str, str]:
    return {
        "input rate Hz": f"{report.rate_in:.1f}",
        "output rate Hz": f"{report.rate_out:.1f}",
        "received": str(report.received),
        "published": str(report.published),
        "replaced": str(report.replaced),
        "lost": str(report.lost),
        "refused": str(sum(report.refused.values())),
        **{f"refused: {kind}": str(count) for kind, count in sorted(report.refused.items())},
        "arrival age ms p50/p95": _milliseconds(report.arrival),
        "wait ms p50/p95": _milliseconds(report.wait),
        "age ms p50/p95": _milliseconds(report.age),
        "last error": report.last_error,
    }


def _depth_values(report: DepthReport) -> dict[str, str]:
    return {
        "input rate Hz": f"{report.rate_in:.1f}",
        "received": str(report.received),
        "matched": str(report.matched),
        "missed": str(report.missed),
        "refused": str(report.refused),
        "last error": report.last_error,
    }


def _status(
    name: str, verdict: Verdict, values: Mapping[str, str], hardware: str
) -> DiagnosticStatus:
    pairs = {"condition": verdict.condition.value, **values}
    return DiagnosticStatus(
        level=bytes([verdict.level]),
        name=name,
        message=verdict.message,
        hardware_id=hardware,
        values=[KeyValue(key=key, value=value) for key, value in pairs.items()],
    )


def _milliseconds(values: list[float] | None) -> str:
    return " / ".join(f"{value:.1f}" for value in values) if values else "-"
