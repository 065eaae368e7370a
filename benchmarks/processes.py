"""A camera process, a node process, and who listens to them: what several benchmarks share."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from pose_node.msg import PersonPoseArray, SkeletonInfo
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from pose_node.ros.messages import to_stamp_ns

NAMESPACE = "/pose_node_benchmark"
COUNTERS = ("received", "published", "replaced", "lost", "refused")
"""What the node counts of a camera, as its diagnostics name it."""


class Listener(Node):
    """Receives poses and diagnostics.

    Args:
        cameras: names of the node's cameras.

    Attributes:
        ready: the node has its network.
        ages_ms: from the stamp of an image to the receipt of its people, one value for each.
        people: how many, one value for each image.
        cameras: whose, one name for each image.
        diagnostics: the newest values of the node and its camera, by name.
        reported: when they came, by `time.monotonic`.
    """

    def __init__(self, cameras: Sequence[str] = ("",)) -> None:
        super().__init__("listener", namespace=NAMESPACE)
        self.ready = False
        self.ages_ms: list[float] = []
        self.people: list[int] = []
        self.cameras: list[str] = []
        self.diagnostics: dict[str, str] = {}
        self._by_status: dict[str, dict[str, str]] = {}
        self.reported = 0.0
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(SkeletonInfo, "skeleton_info", self._on_skeleton, latched)
        for camera in cameras:
            topic = f"{camera}/poses".removeprefix("/")
            self.create_subscription(
                PersonPoseArray, topic, functools.partial(self._on_poses, camera), 10
            )
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def spin(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Receive for so long, or until something holds; whether it does."""
        end = time.monotonic() + seconds
        while not (done := until()) and time.monotonic() < end:
            rclpy.spin_once(self, timeout_sec=max(0.0, min(0.1, end - time.monotonic())))
        return done

    def counts(self) -> dict[str, int]:
        """What the node has counted of all its images since its start, by `COUNTERS`."""
        return {
            name: sum(int(values.get(name, 0)) for values in self._by_status.values())
            for name in COUNTERS
        }

    def _on_skeleton(self, _: SkeletonInfo) -> None:
        self.ready = True

    def _on_poses(self, camera: str, message: PersonPoseArray) -> None:
        now = self.get_clock().now().nanoseconds
        self.cameras.append(camera)
        self.ages_ms.append((now - to_stamp_ns(message.header)) / 1e6)
        self.people.append(len(message.people))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(NAMESPACE):
                values = {pair.key: pair.value for pair in status.values}
                self._by_status[status.name] = values
                self.diagnostics.update(values)
                self.reported = time.monotonic()


def start(
    name: str,
    *arguments: str,
    parameters: Sequence[str] = (),
    remappings: Sequence[str] = (),
    inside: Sequence[str] = (),
    log: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process of the package in our namespace.

    Args:
        name: "run" or "camera".
        arguments: of its command line.
        parameters: ROS parameters, each as "name:=value".
        remappings: of topics, each as "from:=to".
        inside: a command that runs the process somewhere else, such as `nsenter`.
        log: its standard error stream, such as `subprocess.PIPE`; by default ours.
    """
    given = [text for parameter in parameters for text in ("-p", parameter)]
    given += [text for remapping in remappings for text in ("-r", remapping)]
    return subprocess.Popen(
        [
            *(*inside, sys.executable, "-m", "pose_node.ros.entry", name, *arguments),
            *("--ros-args", "-r", f"__ns:={NAMESPACE}", *given),
        ],
        stderr=log,
    )


def start_node(listener: Listener, *parameters: str) -> subprocess.Popen[bytes]:
    """Start the node and wait until it has its network.

    Raises:
        SystemExit: it ended.
    """
    node = start("run", parameters=parameters)
    while not listener.spin(1.0, lambda: listener.ready):
        if node.poll() is not None:
            raise SystemExit(f"the node ended with code {node.returncode}")
    return node


def stop(*processes: subprocess.Popen[bytes] | None) -> None:
    """End processes as Ctrl-C does; who does not listen is killed, and that is told."""
    for process in filter(None, processes):
        process.send_signal(signal.SIGINT)
    for process in filter(None, processes):
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            print(f"process {process.pid} did not end within 60 s", file=sys.stderr)
            process.kill()
            process.wait()


def cpu_seconds(process_id: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(process_id: int) -> float:
    """Memory of a process that is really there (RSS), in MiB."""
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")
