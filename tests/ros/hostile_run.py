"""Sends hostile messages to a node process, and looks whether it goes on: scripts/fuzz_messages.

After every hundred of them a good image must be answered. Prints what was sent, how the node's
memory and log grew, and fails if it died, hung or grew.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import rclpy
from pose_node.msg import PersonPoseArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from tests.ros import hostile_messages
from tests.ros.process_bench import ENTRY, FAULTY, Process, Robot, grey_image, stamp_of

BETWEEN = 100  # hostile messages between two good images
SETTLED = 2000  # messages after which memory is measured for the first time
# Nothing may be lost on the way: every message has to reach the node.
QOS = QoSProfile(depth=2 * BETWEEN, reliability=ReliabilityPolicy.RELIABLE)

CALM = {"FAULTY_IMAGES": "no"}

TRANSPORTS: dict[str, dict[str, tuple[type, Callable[[random.Random], Any]]]] = {
    "raw": {
        "image_raw": (Image, hostile_messages.hostile_image),
        "depth/image_raw": (Image, hostile_messages.hostile_depth),
        "camera_info": (CameraInfo, hostile_messages.hostile_camera_info),
    },
    "compressed": {
        "image_raw/compressed": (CompressedImage, hostile_messages.hostile_compressed),
        "depth/image_raw/compressedDepth": (
            CompressedImage,
            hostile_messages.hostile_compressed_depth,
        ),
        "camera_info": (CameraInfo, hostile_messages.hostile_camera_info),
    },
}


def node_parameters(transport: str, max_pixels: int) -> list[str]:
    """Parameters of a node that receives everything, with this transport of images."""
    raw = transport == "raw"
    given = [
        f"image_transport:={transport}",
        "depth:=true",
        "depth_patience:=0.0",
        f"depth_transport:={'raw' if raw else 'compressedDepth'}",
        f"max_image_pixels:={max_pixels}",
        "diagnostics_period:=0.1",
    ]
    for topic in TRANSPORTS[transport]:
        name = f"qos_overrides./{topic}.subscription"
        given += [f"{name}.reliability:=reliable", f"{name}.depth:={2 * BETWEEN}"]
    return given


class Attack:
    """Hostile messages for one node process.

    Args:
        robot: sends them.
        process: the node, made with `node_parameters`.
        transport: "raw" or "compressed".
        seed: of all that is sent.
    """

    def __init__(self, robot: Robot, process: Process, transport: str, seed: int) -> None:
        self._robot, self._process = robot, process
        self._chance = random.Random(seed)
        self._topics = TRANSPORTS[transport]
        self._image_topic = next(iter(self._topics))
        self._number = 0
        self.sent = {topic: 0 for topic in self._topics}
        self.worst_seconds = 0.0
        self.resident: list[float] = []
        robot.watch()
        robot.listen(PersonPoseArray, "poses_3d")  # so that depth is asked for
        self._publishers = {
            topic: robot.node.create_publisher(kind, topic, QOS)
            for topic, (kind, _) in self._topics.items()
        }
        for publisher in self._publishers.values():
            assert robot.wait(lambda: publisher.get_subscription_count() > 0)  # noqa: B023
        self.answer()
        self.worst_seconds = 0.0

    def run(self, count: int) -> None:
        """Send so many messages, with good images in between."""
        for _ in range(count):
            topic = self._chance.choice((self._image_topic, *self._topics))
            message = hostile_messages.hostile(self._chance, self._topics[topic][1])
            self._publishers[topic].publish(message)
            self.sent[topic] += 1
            self._number += 1
            if self._number % BETWEEN == 0:
                self.answer()
            if self._number >= SETTLED and self._number % 500 == 0:
                self.resident.append(self._process.resident_mib)

    def answer(self) -> None:
        """Send a good image; fails if it is not answered."""
        message: Any = grey_image(encoding="bgr8")
        if self._image_topic.endswith("compressed"):
            jpeg = cv2.imencode(".jpg", np.zeros((12, 16, 3), np.uint8))[1].tobytes()
            message = CompressedImage(header=message.header, format="jpeg", data=jpeg)
        self._robot.poses.clear()
        started = time.monotonic()
        self._publishers[self._image_topic].publish(message)
        stamp = stamp_of(message)
        found = self._robot.wait(
            lambda: not self._process.is_alive or stamp in map(stamp_of, self._robot.poses)
        )
        self.worst_seconds = max(self.worst_seconds, time.monotonic() - started)
        assert self._process.is_alive, self._process.output[-3000:]
        assert found, f"no answer after {self._number} messages: {self.report()}"

    def report(self) -> dict[str, Any]:
        """What happened so far."""
        # The node's own: decoders of images write what they like.
        lines = [line for line in self._process.output.splitlines() if "[pose_node]" in line]
        grown = self.resident[-1] - self.resident[0] if self.resident else 0.0
        topic = f"/{self._image_topic}"
        keys = ("received", "published", "replaced", "refused", "lost")
        return {
            "sent": self.sent,
            "node": {key: self._robot.value(key, topic) for key in keys},
            "failures": self._robot.value("failures", "node"),
            "worst answer s": round(self.worst_seconds, 2),
            "MiB at first": round(self.resident[0], 1) if self.resident else None,
            "MiB grown": round(grown, 1),
            "MiB most": round(max(self.resident), 1) if self.resident else None,
            "log lines": len(lines),
            "tracebacks": self._process.output.count("Traceback"),
        }


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(prog="fuzz_messages", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="messages in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-pixels", type=int, default=1_000_000)
    parser.add_argument("--network", action="store_true", help="with the real network")
    options = parser.parse_args()
    rclpy.init(args=[])
    grown = 0.0
    for transport in TRANSPORTS:
        node = rclpy.create_node("robot")
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        robot = Robot(node, lambda seconds: executor.spin_once(timeout_sec=seconds))  # noqa: B023
        given = node_parameters(transport, options.max_pixels)
        if options.network:
            given += ["device:=cpu", "image_size:=32"]
        process = Process(*given, program=ENTRY if options.network else FAULTY, environment=CALM)
        try:
            started = time.monotonic()
            attack = Attack(robot, process, transport, options.seed)
            attack.run(options.count // len(TRANSPORTS))
            report = attack.report()
            print(
                transport, json.dumps({"s": round(time.monotonic() - started), **report}, indent=1)
            )
            for line in process.output.splitlines():
                if "Traceback" in line or "Error" in line:
                    print("   ", line[:300])
            grown = max(grown, report["MiB grown"])
        finally:
            process.close()
            executor.shutdown()
            node.destroy_node()
    rclpy.try_shutdown()
    if grown > 20:
        print(f"memory has grown by {grown} MiB", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    sys.exit(main())
