"""Processes of the node, and the other side of their topics.

Import it only where rclpy can be imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from pose_node.msg import PersonPoseArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header

REPOSITORY = Path(__file__).resolve().parents[2]
ENTRY = ("pose_node.ros.entry", "run")
FAULTY = ("tests.ros.faulty_node",)


class Process:
    """A node process and what it wrote, line by line as it comes.

    Args:
        parameters: of the node, such as "device:=cpu".
        name: of the node.
        program: module and first arguments of the program.
        environment: variables on top of this process's own.
    """

    def __init__(
        self,
        *parameters: str,
        name: str = "pose_node",
        program: tuple[str, ...] = ENTRY,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        given = [text for parameter in parameters for text in ("-p", parameter)]
        given += ["-r", f"__node:={name}"]
        self.popen = subprocess.Popen(
            [sys.executable, "-m", *program, "--ros-args", *given],
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "PYTHONUNBUFFERED": "1",
                **(environment or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self.output += line

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.popen.poll() is None

    @property
    def resident_mib(self) -> float:
        """Its memory."""
        status = Path(f"/proc/{self.popen.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def end(self, number: int | None = None) -> int:
        """Wait for the end, after sending a signal if any; the exit code."""
        if number is not None:
            self.popen.send_signal(number)
        code = self.popen.wait(timeout=60)
        self._reader.join(timeout=60)
        return code

    def close(self) -> None:
        """See that nothing is left; what it wrote is shown if the test failed."""
        if self.is_alive:
            self.popen.kill()
        self.end()
        print(self.output, end="")
        assert self.popen.stdout is not None
        self.popen.stdout.close()


class Robot:
    """The other side: publishes images, keeps what comes back.

    Attributes:
        poses: what has come on `poses`, once `watch` was called.
    """

    def __init__(self, node: Node, spin_once: Callable[[float], None]) -> None:
        self.node = node
        self.poses: list[PersonPoseArray] = []
        self._summaries: list[DiagnosticStatus] = []
        self._statuses: dict[str, DiagnosticStatus] = {}
        self._publishers: dict[str, Any] = {}
        self._spin_once = spin_once

    def listen(self, kind: type, topic: str, qos: QoSProfile | int = 10) -> list[Any]:
        """What arrives on a topic from now on."""
        arrived: list[Any] = []
        self.node.create_subscription(kind, topic, arrived.append, qos)
        return arrived

    def wait(self, what: Callable[[], bool], seconds: float = 30) -> bool:
        """Spin until something holds; whether it did in time."""
        end = time.monotonic() + seconds
        while not what():
            if time.monotonic() > end:
                return False
            self._spin_once(0.02)
        return True

    # Of nodes of the name pose_node

    def watch(self, poses: str = "poses") -> Robot:
        """Keep poses, diagnostics and status from now on."""
        self.poses = self.listen(PersonPoseArray, poses, 100)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._summaries = self.listen(DiagnosticStatus, "pose_node/status", latched)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        return self

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self._statuses[status.name.removeprefix("/pose_node: ")] = status

    def status(self, of: str = "/image_raw") -> DiagnosticStatus | None:
        """The newest status of "node" or a camera by its topic; None before the first."""
        return self._statuses.get(of)

    def value(self, key: str, of: str = "/image_raw") -> str:
        """A value of that status, "" if it is not there."""
        status = self.status(of)
        pairs = [] if status is None else status.values
        return next((str(pair.value) for pair in pairs if pair.key == key), "")

    def wait_for(
        self,
        level: bytes,
        condition: str,
        of: str = "/image_raw",
        meanwhile: Callable[[], object] = lambda: None,
    ) -> DiagnosticStatus:
        """Wait for a level and condition of "node" or a camera, doing something at every look."""

        def holds() -> bool:
            meanwhile()
            status = self.status(of)
            return (
                status is not None
                and status.level == level
                and self.value("condition", of) == condition
            )

        assert self.wait(holds), (condition, self.status(of))
        found = self.status(of)
        assert found is not None
        return found

    def wait_for_summary(self, level: bytes) -> DiagnosticStatus:
        """Wait for a level of ~/status."""
        assert self.wait(lambda: bool(self._summaries) and self._summaries[-1].level == level)
        return self._summaries[-1]

    def wait_for_node(self) -> None:
        """Until the node is active and hears images."""
        assert self.wait(lambda: self.value("state", "node") == "active")
        publisher = self.publisher()
        assert self.wait(lambda: publisher.get_subscription_count() > 0)

    # Services

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """The answer of a service, asked again where there is none.

        ROS drops the answer to a client that the service has not discovered yet.
        """
        client = self.node.create_client(kind, name)
        answer = None
        for _ in range(6):
            assert self.wait(client.service_is_ready), name
            answer = client.call_async(request)
            if self.wait(answer.done, seconds=5):
                break
        assert answer is not None
        assert answer.done(), name
        self.node.destroy_client(client)
        return answer.result()

    def change_state(self, **states: int) -> None:
        """Walk the node to states of its lifecycle, each by a transition."""
        for state, transition in states.items():
            request = ChangeState.Request(transition=Transition(id=transition))
            self.call(ChangeState, "pose_node/change_state", request)
            assert self.state() == state

    def state(self) -> str:
        """Where the node is in its lifecycle."""
        answer = self.call(GetState, "pose_node/get_state", GetState.Request())
        return str(answer.current_state.label)

    # Images

    def publisher(self, topic: str = "image_raw", kind: type = Image) -> Any:
        """The publisher of a topic."""
        if topic not in self._publishers:
            self._publishers[topic] = self.node.create_publisher(kind, topic, 5)
        return self._publishers[topic]

    def forget_publisher(self, topic: str = "image_raw") -> None:
        """Take a publisher away."""
        self.node.destroy_publisher(self._publishers.pop(topic))

    def send(self, message: Any = None, topic: str = "image_raw", **changes: Any) -> Any:
        """Publish a message, by default a good image of now; `changes` are other fields."""
        message = grey_image(**changes) if message is None else message
        self.publisher(topic, type(message)).publish(message)
        return message

    def ask(self, topic: str = "image_raw", **changes: Any) -> PersonPoseArray:
        """Publish images until one of them is answered, as a camera does."""
        sent: set[tuple[int, int]] = set()
        last = 0.0

        def answered() -> bool:
            nonlocal last
            if time.monotonic() - last > 0.1:
                last = time.monotonic()
                sent.add(stamp_of(self.send(topic=topic, **changes)))
            return any(stamp_of(message) in sent for message in self.poses)

        assert self.wait(answered), self._statuses
        return next(message for message in self.poses if stamp_of(message) in sent)


def stamp_of(message: Any) -> tuple[int, int]:
    """Seconds and nanoseconds of its header."""
    return message.header.stamp.sec, message.header.stamp.nanosec


def grey_image(value: int = 0, **changes: Any) -> Image:
    """A good image of now, 16x12 in one grey; `changes` are other fields."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    fields: dict[str, Any] = {
        "header": Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id="camera"),
        "width": 16,
        "height": 12,
        "encoding": "mono8",
        **changes,
    }
    channels = {"mono8": 1, "bgr8": 3, "rgb8": 3, "bgra8": 4}.get(fields["encoding"], 1)
    fields.setdefault("step", fields["width"] * channels)
    if "data" not in fields:
        fields["data"] = bytes([value]) * (fields["step"] * fields["height"])
    return Image(**fields)
