"""A bench for the node: a fake network, a peer that publishes and listens, and real DDS between.

Import it only where rclpy can be imported.
"""

from __future__ import annotations

import copy
import queue
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from pose_node.msg import PersonPoseArray
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from pose_node import Frame, Poses, Skeleton
from pose_node.pipeline import Found
from pose_node.ros.node import PoseNode
from pose_node.ros.parameters import NodeParameters
from pose_node.ros.throttle import Throttle
from tests.conftest import make_poses

PATIENCE = 3000  # looks, a hundred a second; not a time, which a halted machine would use up
WIDTH, HEIGHT = 16, 12
LOG_LINE = re.compile(r"^\[([A-Z]+)\] \[[\d.]+\] \[([\w.]+)\]: ", re.MULTILINE)


def raise_like(error: Exception) -> NoReturn:
    """Raise a copy: the traceback of one that is kept would keep the node that met it, too."""
    raise copy.copy(error)


class FakeEngine:
    """What the node reads and sets of an engine; uses no device."""

    def __init__(self, parameters: NodeParameters, num_keypoints: int = 17) -> None:
        self.model_name = parameters.model
        self.device = "cuda:0"
        self.device_description = "a fake device"
        self.runs_batches = True
        self.backend = "torch"
        self.skeleton = Skeleton.for_keypoints(num_keypoints)
        self.stage_times = {"preprocess": 0.001, "network": 0.020, "postprocess": 0.001}
        self.score_threshold = parameters.score_threshold
        self.iou_threshold = parameters.iou_threshold
        self.max_people = parameters.max_people
        self.reduction = 1

    def largest_reduction(self, width: int, height: int) -> int:
        return self.reduction

    def release_graphs(self) -> None:
        pass


class FakePipeline:
    """Finds `count` people in every frame, remembers the frames, and raises what it is told to.

    Attributes:
        errors: raised by the next calls, one each.
        gate: while it is cleared, calls wait.
        entered: one item for every call.
    """

    def __init__(self, parameters: NodeParameters, num_keypoints: int = 17) -> None:
        self.engine = FakeEngine(parameters, num_keypoints)
        self.score_threshold = parameters.score_threshold
        self.tracking = parameters.tracker_settings()
        self.smoothing = parameters.smoothing_settings()
        self.stage_times = self.engine.stage_times
        self.forgotten = 0
        self.first_id = self.next_id = 1
        self.count = 2
        self.errors: list[Exception] = []
        self.bad_value: int | None = None
        self.batches: list[list[str]] = []
        self.frames: list[Frame] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered: queue.Queue[None] = queue.Queue()

    def __call__(self, frames: Sequence[Frame]) -> list[Found]:
        self.batches.append([frame.camera for frame in frames])
        self.frames += frames
        self.entered.put(None)
        self.gate.wait()
        if self.errors:
            raise_like(self.errors.pop(0))
        found = [self.poses() for _ in frames]
        return [Found(frame, poses, poses) for frame, poses in zip(frames, found, strict=True)]

    def forget(self) -> None:
        self.forgotten += 1

    def poses(self) -> Poses:
        return make_poses(self.count, num_keypoints=self.engine.skeleton.num_keypoints)


class Bench:
    """A node and its peer, spinning in a thread.

    Args:
        rclpy: initialised.
        read_log: gives all that was written to the standard error stream.
        overrides: of the node's parameters.
        load: of `PoseNode`; by default makes a `FakePipeline`.
        arguments: more of the node's constructor.
    """

    def __init__(
        self,
        rclpy: Any,
        read_log: Callable[[], str],
        overrides: dict[str, Any],
        load: Callable[[NodeParameters], Any] | None = None,
        **arguments: Any,
    ) -> None:
        self.pipeline: Any = None
        self._load = load or FakePipeline
        self._received: dict[str, queue.Queue[Any]] = defaultdict(queue.Queue)
        self._read_log, self._log_start = read_log, len(read_log())
        self._publishers: dict[str, Publisher[Any]] = {}
        self.peer: Node = rclpy.create_node("peer")
        self.peer.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._diagnostics: DiagnosticArray | None = None
        given = [Parameter(name, value=value) for name, value in overrides.items()]
        self.node = PoseNode(self._load_and_keep, parameter_overrides=given, **arguments)
        self.node._throttle = Throttle(seconds=1e9)  # on a busy machine a test may take long
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.peer)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()

    def _load_and_keep(self, parameters: NodeParameters) -> Any:
        self.pipeline = self._load(parameters)
        return self.pipeline

    def close(self) -> None:
        """Destroy everything."""
        if isinstance(self.pipeline, FakePipeline):
            self.pipeline.gate.set()
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()
        self.peer.destroy_node()

    # The node's life

    def run(self, function: Callable[[], Any]) -> Any:
        """Call a function in the executor's thread, as services are."""
        done = threading.Event()
        task = self._executor.create_task(function)
        task.add_done_callback(lambda _: done.set())
        self.until(done.is_set, lambda: "the executor does not answer")
        return task.result()

    def transition(self, *names: str) -> list[str]:
        """Go through transitions, such as "configure"; the names of their results."""
        return [self.run(getattr(self.node, f"trigger_{name}")).name for name in names]

    def activate(self) -> Bench:
        """Configure and activate."""
        assert self.transition("configure", "activate") == ["SUCCESS", "SUCCESS"], self.logs()
        return self

    @property
    def state(self) -> str:
        """The state of the lifecycle."""
        return str(self.node._state_machine.current_state[1])

    # Images in

    def publisher(
        self, kind: type, topic: str, *, reliability: str = "RELIABLE", wait: bool = True
    ) -> Publisher[Any]:
        """The peer's publisher of a topic, connected to the node unless not to `wait` for that."""
        if topic not in self._publishers:
            qos = QoSProfile(depth=5, reliability=ReliabilityPolicy[reliability])
            # rclpy's own callback for incompatible QoS uses a deprecated function of its own.
            quiet = PublisherEventCallbacks(use_default_callbacks=False)
            self._publishers[topic] = self.peer.create_publisher(
                kind, topic, qos, event_callbacks=quiet
            )
        publisher = self._publishers[topic]
        if wait:
            self.until(lambda: publisher.get_subscription_count() > 0)
        return publisher

    def send(self, message: Image | CompressedImage, topic: str = "", **options: Any) -> None:
        """Publish an image."""
        raw = isinstance(message, Image)
        topic = topic or ("image_raw" if raw else "image_raw/compressed")
        self.publisher(type(message), topic, **options).publish(message)

    # What comes out

    def listen(
        self, kind: type, topic: str, *, reliability: str = "RELIABLE", wait: bool = True
    ) -> queue.Queue[Any]:
        """The queue of everything that arrives on a topic."""
        qos = QoSProfile(depth=20, reliability=ReliabilityPolicy[reliability])
        self.peer.create_subscription(kind, topic, self._received[topic].put, qos)
        if wait:
            self.until(lambda: self.peer.count_publishers(topic) > 0)
        return self._received[topic]

    def ask(self, message: Image | CompressedImage, topic: str = "") -> PersonPoseArray:
        """Publish an image and wait for its people."""
        poses = f"{topic.partition('image_raw')[0]}poses"
        if poses not in self._received:
            self.listen(PersonPoseArray, poses)
            self.until(lambda: self.is_heard(poses))
        self.send(message, topic)
        return self.get(self._received[poses])

    def is_heard(self, topic: str) -> bool:
        """Whether the peer, or another one, hears all publishers that the node has of a topic."""
        publishers = [item for item in self.node.publishers if item.topic_name == f"/{topic}"]
        return all(publisher.get_subscription_count() > 0 for publisher in publishers)

    def get(self, messages: queue.Queue[Any]) -> Any:
        """The next message of a queue."""
        self.until(lambda: not messages.empty())
        return messages.get_nowait()

    def logs(self, level: str = "", *, statuses: bool = False) -> list[str]:
        """What the node has logged, at one level ("info", "warn", "error") or at all.

        Without the lines on changed statuses, or only those.
        """
        parts = LOG_LINE.split(self._read_log()[self._log_start :])[1:]
        lines = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
        return [
            text.removesuffix("\n")
            for of, name, text in lines
            if name.endswith("pose_node") and of.lower() == (level or of.lower())
            if text.startswith("status of=") == statuses
        ]

    def wait_for_log(self, part: str, level: str) -> str:
        """The first log line of that level that holds `part`."""
        self.until(lambda: any(part in text for text in self.logs(level)), lambda: self.logs())
        return next(text for text in self.logs(level) if part in text)

    def status(self, name: str = "/image_raw") -> DiagnosticStatus:
        """The newest status of a camera by its topic, or "node"; from after this call."""
        self._diagnostics = None
        found: list[DiagnosticStatus] = []

        def arrived() -> bool:
            array = self._diagnostics
            if array is not None:
                found[:] = [item for item in array.status if item.name.endswith(f": {name}")]
            return bool(found)

        self.until(arrived)
        return found[0]

    def values(self, name: str = "/image_raw") -> dict[str, str]:
        """The values of that status."""
        return {pair.key: pair.value for pair in self.status(name).values}

    def wait_for_value(self, key: str, value: str, name: str = "/image_raw") -> None:
        """Until a value is reported."""
        self.until(lambda: self.values(name).get(key) == value, lambda: self.values(name))

    # Services

    def enable(self, data: bool) -> SetBool.Response:
        """Call ~/enable."""
        return self._call(SetBool, "pose_node/enable", SetBool.Request(data=data))

    def set_parameters(self, **values: Any) -> list[SetParametersResult]:
        """Set parameters one after the other, as `ros2 param set` does."""
        given = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        request = SetParameters.Request(parameters=given)
        return list(self._call(SetParameters, "pose_node/set_parameters", request).results)

    def _call(self, kind: type, name: str, request: Any) -> Any:
        client = self.peer.create_client(kind, name)
        self.until(client.service_is_ready)
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        self.until(done.is_set, lambda: f"{name} does not answer")
        return future.result()

    # Inside

    def until(
        self, condition: Callable[[], bool], explain: Callable[[], object] = lambda: ""
    ) -> None:
        """Wait for a condition, checked a hundred times a second; fail if it never comes true."""
        pause = threading.Event()
        for _ in range(PATIENCE):
            if condition():
                return
            assert self._thread.is_alive(), "the executor has died"
            pause.wait(0.01)
        raise AssertionError(f"waited in vain: {explain()}")

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self._diagnostics = message


def header(seconds: int = 1_700_000_000, nanoseconds: int = 123_456_789) -> Header:
    """A header as a camera makes it."""
    return Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id="camera_optical_frame")


def picture() -> np.ndarray:
    """(HEIGHT, WIDTH, 3) BGR, every pixel different."""
    return np.arange(HEIGHT * WIDTH * 3).reshape(HEIGHT, WIDTH, 3).astype(np.uint8)


def fresh_image(**changes: Any) -> Image:
    """A good image message of right now."""
    return image(header=header(*divmod(time.time_ns(), 1_000_000_000)), **changes)


def image(number: int = 0, **changes: Any) -> Image:
    """A good image message, its stamp `number` seconds later; `changes` are other fields."""
    fields: dict[str, Any] = {
        "header": header(1_700_000_000 + number),
        "width": WIDTH,
        "height": HEIGHT,
        "encoding": "bgr8",
        "step": 3 * WIDTH,
        "data": picture().tobytes(),
    }
    return Image(**{**fields, **changes})
