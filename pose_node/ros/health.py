"""What the state of the node and its cameras means: a level, its name, the reason and what to do.

Pure functions over reports. docs/troubleshooting.md explains each `Condition`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import NamedTuple

from pose_node.ros.statistics import CameraReport, DepthReport, StageReport

OLD_MS = 1000.0  # an image older than this says nothing about where people are
AHEAD_MS = -100.0  # further ahead than clocks that are synchronised ever are
SLOW_SHARE = 0.5  # of the images that arrive, replaced before their turn
LOST_SHARE = 0.1  # of the images that were sent
HANGING = 10.0  # seconds without an answer that few devices need


class Level(IntEnum):
    """The levels of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


class Condition(str, Enum):
    """Short, constant names: for supervisors, log lines and docs/troubleshooting.md."""

    WORKING = "working"
    NOT_ACTIVE = "not active"
    DISABLED = "disabled"
    NO_NETWORK = "no network"
    DEVICE_FAULT = "device fault"
    SMALL_BATCHES = "small batches"
    OTHER_DEVICE = "other device"
    NEVER_CAME = "no images yet"
    SILENT = "no images any more"
    FAILING = "images fail"
    ALL_REFUSED = "all images refused"
    UNANSWERED = "images unanswered"
    NO_ANSWERS = "no answers any more"
    REFUSED = "images refused"
    FAILING_IN_PART = "outputs fail"
    STAMP_JUMP = "stamps jumped"
    NO_STAMP = "no stamps"
    AHEAD = "stamps ahead"
    OLD = "old images"
    LATE = "late people"
    LOST = "images lost"
    TOO_SLOW = "too slow"
    NO_DEPTH_YET = "no depth yet"
    NO_DEPTH = "no depth any more"
    WITHOUT_DEPTH = "images without depth"


class Verdict(NamedTuple):
    """What a state means.

    Attributes:
        level: how bad it is.
        condition: its name.
        message: the reason and, unless all is well, what to do.
    """

    level: Level
    condition: Condition
    message: str


@dataclass(frozen=True)
class NodeReport:
    """The state of the node at one moment.

    Attributes:
        state: of the lifecycle: "unconfigured", "inactive", "active" or "finalized".
        enabled: whether images are processed (service ~/enable).
        model, device, device_description, backend: what is really used; empty when not configured.
        half: whether it computes in 16 bits.
        device_warning: why the device is not the one that was hoped for; empty if it is.
        configure_error: why the last attempt to configure failed; empty if it did not.
        device_fault: why the network is being loaded anew, and what to do; empty if it is not.
        batch_limit: most images at once that the device has memory for; None for any.
        stages: times and failures of the work.
    """

    state: str
    enabled: bool
    model: str
    device: str
    device_description: str
    backend: str
    half: bool
    device_warning: str
    configure_error: str
    device_fault: str
    batch_limit: int | None
    stages: StageReport

    @property
    def working(self) -> bool:
        """Whether images are processed."""
        return self.state == "active" and self.enabled


def judge_node(node: NodeReport) -> Verdict:
    """What the state of the node means, without its cameras."""
    if node.state == "unconfigured" and node.configure_error:
        return Verdict(Level.ERROR, Condition.NO_NETWORK, f"no network: {node.configure_error}")
    if node.state != "active":
        return Verdict(Level.OK, Condition.NOT_ACTIVE, f"{node.state}: nothing is processed")
    if node.device_fault:
        return Verdict(Level.ERROR, Condition.DEVICE_FAULT, node.device_fault)
    if not node.enabled:
        return Verdict(Level.OK, Condition.DISABLED, "disabled by the service ~/enable")
    if node.device_warning:
        return Verdict(Level.WARN, Condition.OTHER_DEVICE, node.device_warning)
    if node.batch_limit is not None:
        return Verdict(
            Level.WARN,
            Condition.SMALL_BATCHES,
            f"the device has memory for {node.batch_limit} images at once only, so cameras wait "
            "for each other: end what else uses it, or choose a smaller model or image_size",
        )
    return Verdict(Level.OK, Condition.WORKING, f"{node.model} on {node.device}")


def judge_camera(report: CameraReport, topic: str, *, working: bool) -> Verdict:
    """What the state of a camera means: the worst that can be said of it.

    Args:
        report: its state.
        topic: of its images.
        working: whether images are processed.
    """
    if not working:
        return Verdict(Level.OK, Condition.NOT_ACTIVE, "not processed")
    if report.silent and not report.received:
        message = f"no images yet: see what publishes {topic}"
        return Verdict(Level.STALE, Condition.NEVER_CAME, message)
    if report.silent:
        return Verdict(
            Level.STALE,
            Condition.SILENT,
            f"no images any more: see what publishes {topic}",
        )
    for judge in _CAMERA_FAULTS:
        verdict = judge(report)
        if verdict is not None:
            return verdict
    return Verdict(Level.OK, Condition.WORKING, f"{report.rate_out:.1f} images/s")


def judge_depth(report: DepthReport, topic: str, *, working: bool) -> Verdict:
    """What the state of a camera's depth means; arguments as of `judge_camera`."""
    if not working:
        return Verdict(Level.OK, Condition.NOT_ACTIVE, "not processed")
    if report.rate_in == 0 and not report.received:
        message = f"no depth images yet: see what publishes {topic}"
        return Verdict(Level.STALE, Condition.NO_DEPTH_YET, message)
    if report.rate_in == 0:
        message = f"no depth images any more: see what publishes {topic}"
        return Verdict(Level.STALE, Condition.NO_DEPTH, message)
    if report.rate_refused:
        some = "all" if report.rate_refused >= report.rate_in else "some"
        message = f"{some} depth images are refused, last: {report.last_refusal}"
        return Verdict(Level.WARN, Condition.WITHOUT_DEPTH, message)
    if report.rate_missed:
        message = f"{report.missed} images without depth, last: {report.last_error}"
        return Verdict(Level.WARN, Condition.WITHOUT_DEPTH, message)
    return Verdict(Level.OK, Condition.WORKING, f"{report.rate_in:.1f} depth images/s")


def _failing(report: CameraReport) -> Verdict | None:
    if report.failure:
        return Verdict(Level.ERROR, Condition.FAILING, f"images fail: {report.failure}")
    return None


def _failing_in_part(report: CameraReport) -> Verdict | None:
    if report.partial_failure:
        message = f"people are published, but not all that goes with them: {report.partial_failure}"
        return Verdict(Level.WARN, Condition.FAILING_IN_PART, message)
    return None


def _refused(report: CameraReport) -> Verdict | None:
    total = sum(report.refused.values())
    if report.rate_refused and not report.rate_out:
        message = f"all images are refused: {report.last_error}"
        return Verdict(Level.ERROR, Condition.ALL_REFUSED, message)
    if report.rate_refused:
        message = f"{total} refused, last: {report.last_error}"
        return Verdict(Level.WARN, Condition.REFUSED, message)
    if report.waiting > max(HANGING, 5 * report.usual_waiting):
        return Verdict(
            Level.ERROR,
            Condition.NO_ANSWERS,
            f"no image was answered for {report.waiting:.0f} s: if the status of the node is well, "
            "its device hangs: see `dmesg`, and start the node anew",
        )
    # Of a slow camera the answer before may have left the window when the next image comes.
    telling = report.rate_in > (0.15 if report.published else 0)
    if telling and not report.rate_out:
        message = "images arrive, but none was processed yet"
        return Verdict(Level.WARN, Condition.UNANSWERED, message)
    return None


def _clocks(report: CameraReport) -> Verdict | None:
    if report.jumps:
        direction = "back" if report.last_jump < 0 else "ahead"
        return Verdict(
            Level.WARN,
            Condition.STAMP_JUMP,
            f"stamps jumped {direction} by {_span(abs(report.last_jump) * 1e3)}, {report.jumps} "
            "times in the last seconds: let the camera's clock be disciplined (chrony); recordings "
            "that start over do this, too",
        )
    if report.unstamped:
        return Verdict(
            Level.WARN,
            Condition.NO_STAMP,
            "images have no stamp (0), so nothing can be matched to them: let the camera driver "
            "set header.stamp",
        )
    if report.arrival is not None and report.arrival[0] < AHEAD_MS:
        return Verdict(
            Level.WARN,
            Condition.AHEAD,
            f"images are stamped {_span(-report.arrival[0])} ahead of this node's clock: "
            "synchronise the clocks (chrony), or set use_sim_time for all nodes or for none",
        )
    if report.arrival is not None and report.arrival[0] > OLD_MS:
        return Verdict(
            Level.WARN,
            Condition.OLD,
            f"images are {_span(report.arrival[0])} old when they arrive: see the network "
            "and the camera's clock; for recordings play --clock and set use_sim_time",
        )
    return None


def _speed(report: CameraReport) -> Verdict | None:
    sent = report.rate_in + report.rate_lost
    if report.rate_lost > LOST_SHARE * sent:
        return Verdict(
            Level.WARN,
            Condition.LOST,
            f"{report.rate_lost:.1f} of {sent:.1f} images/s are lost on the way: see the network, "
            "shared memory (/dev/shm) and the profile of the middleware",
        )
    if report.age is not None and report.age[0] > OLD_MS:
        return Verdict(
            Level.WARN,
            Condition.LATE,
            f"people come {_span(report.age[0])} after their image was taken: choose a "
            "smaller model or image_size, or a faster device",
        )
    if report.settled and report.rate_replaced > SLOW_SHARE * report.rate_in:
        return Verdict(
            Level.WARN,
            Condition.TOO_SLOW,
            f"only {report.rate_out:.1f} of {report.rate_in:.1f} images/s are processed: choose a "
            "smaller model or image_size, a faster device or a slower camera",
        )
    return None


def _span(milliseconds: float) -> str:
    seconds = milliseconds / 1e3
    return f"{seconds:.1f} s" if seconds < 1e5 else f"{seconds / 86400:.0f} days"


_CAMERA_FAULTS: tuple[Callable[[CameraReport], Verdict | None], ...] = (
    *(_failing, _refused, _failing_in_part, _clocks, _speed),
)
"""The worst first."""


def severity(level: Level) -> int:
    """How bad a level is, 0 for OK: an error is worse than silence, unlike in the numbers."""
    return (Level.OK, Level.WARN, Level.STALE, Level.ERROR).index(level)
