"""The state of node and cameras as `diagnostic_msgs`, for people and for supervisors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from pose_node.ros.statistics import CameraReport, DepthReport


@dataclass(frozen=True)
class NodeReport:
    """The state of the node at one moment.

    Attributes:
        state: of the lifecycle: "unconfigured", "inactive" or "active".
        enabled: whether images are processed (service ~/enable).
        model, device, device_description: what is really used; empty when not configured.
        half: whether it computes in float16.
        device_warning: why the device is not the one that was hoped for; empty if it is.
        stages_ms: for each stage of the work p50 and p95 in milliseconds.
        failing: the latest images could not be processed.
        failures: how many could not, since the start.
        last_failure: the latest reason.
    """

    state: str
    enabled: bool
    model: str
    device: str
    device_description: str
    half: bool
    device_warning: str
    stages_ms: Mapping[str, list[float]]
    failing: bool
    failures: int
    last_failure: str


def to_diagnostics(
    stamp: Time,
    name: str,
    node: NodeReport,
    cameras: Mapping[str, CameraReport],
    depths: Mapping[str, DepthReport],
) -> DiagnosticArray:
    """One status for the node, one for each camera and one for the depth of each.

    Args:
        stamp: now.
        name: full name of the node.
        node: its state.
        cameras: the state of each camera by its image topic.
        depths: that of its depth by the topic of the depth images.
    """
    statuses = [_node_status(name, node)]
    working = node.state == "active" and node.enabled
    statuses += [
        _camera_status(f"{name}: {topic}", topic, report, node.device_description, working)
        for topic, report in cameras.items()
    ]
    statuses += [
        _depth_status(f"{name}: {topic}", topic, report, node.device_description, working)
        for topic, report in depths.items()
    ]
    return DiagnosticArray(header=Header(stamp=stamp), status=statuses)


def _node_status(name: str, node: NodeReport) -> DiagnosticStatus:
    if node.state != "active":
        level, message = DiagnosticStatus.OK, f"{node.state}: nothing is processed"
    elif not node.enabled:
        level, message = DiagnosticStatus.OK, "disabled by the service ~/enable"
    elif node.failing:
        level, message = DiagnosticStatus.ERROR, f"images fail: {node.last_failure}"
    elif node.device_warning:
        level, message = DiagnosticStatus.WARN, node.device_warning
    else:
        level, message = DiagnosticStatus.OK, f"{node.model} on {node.device}"
    values = {
        "state": node.state,
        "enabled": str(node.enabled).lower(),
        "model": node.model,
        "device": node.device,
        "device description": node.device_description,
        "half": str(node.half).lower(),
        **{
            f"{stage} ms p50/p95": _milliseconds(values) for stage, values in node.stages_ms.items()
        },
        "failures": str(node.failures),
        "last failure": node.last_failure,
    }
    return _status(level, f"{name}: node", message, node.device_description, values)


def _camera_status(
    name: str, topic: str, report: CameraReport, hardware: str, working: bool
) -> DiagnosticStatus:
    refused = sum(report.refused.values())
    if not working:
        level, message = DiagnosticStatus.OK, "not processed"
    elif report.silent and report.received:
        level, message = DiagnosticStatus.WARN, f"no images any more: see what publishes {topic}"
    elif report.silent:
        level, message = DiagnosticStatus.WARN, f"no images yet: see what publishes {topic}"
    elif report.rate_out == 0 and report.rate_refused:
        level, message = DiagnosticStatus.ERROR, f"all images are refused: {report.last_error}"
    elif report.rate_out == 0:
        level, message = DiagnosticStatus.WARN, "images arrive, but none was processed yet"
    elif report.rate_refused:
        level, message = DiagnosticStatus.WARN, f"{refused} refused, last: {report.last_error}"
    else:
        level, message = DiagnosticStatus.OK, f"{report.rate_out:.1f} images/s"
    values = {
        "input rate Hz": f"{report.rate_in:.1f}",
        "output rate Hz": f"{report.rate_out:.1f}",
        "received": str(report.received),
        "published": str(report.published),
        "replaced": str(report.replaced),
        "lost": str(report.lost),
        "refused": str(refused),
        **{f"refused: {kind}": str(count) for kind, count in sorted(report.refused.items())},
        "arrival age ms p50/p95": _milliseconds(report.arrival),
        "wait ms p50/p95": _milliseconds(report.wait),
        "age ms p50/p95": _milliseconds(report.age),
        "last error": report.last_error,
    }
    return _status(level, name, message, hardware, values)


def _depth_status(
    name: str, topic: str, report: DepthReport, hardware: str, working: bool
) -> DiagnosticStatus:
    if not working:
        level, message = DiagnosticStatus.OK, "not processed"
    elif report.rate_in == 0:
        since = "any more" if report.received else "yet"
        level, message = (
            DiagnosticStatus.WARN,
            f"no depth images {since}: see what publishes {topic}",
        )
    elif report.rate_missed:
        level = DiagnosticStatus.WARN
        message = f"{report.missed} images without depth, last: {report.last_error}"
    else:
        level, message = DiagnosticStatus.OK, f"{report.rate_in:.1f} depth images/s"
    values = {
        "input rate Hz": f"{report.rate_in:.1f}",
        "received": str(report.received),
        "matched": str(report.matched),
        "missed": str(report.missed),
        "refused": str(report.refused),
        "last error": report.last_error,
    }
    return _status(level, name, message, hardware, values)


def _status(
    level: bytes, name: str, message: str, hardware: str, values: Mapping[str, str]
) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticStatus(
        level=level, name=name, message=message, hardware_id=hardware, values=pairs
    )


def _milliseconds(values: list[float] | None) -> str:
    return " / ".join(f"{value:.1f}" for value in values) if values else "-"
