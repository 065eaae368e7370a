"""How soon people come again: after a camera was away, and after the node was killed.

    python benchmarks/outage.py --rounds 10

In each round the camera process is killed and started again, then the node (SIGKILL, as the kernel
does when memory is out). A camera's time is from the stamp of its first image, whoever heard of it,
to the receipt of the first people; the node's is from the start of its process, exported files in
the cache.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rclpy
from processes import Listener, start, start_node, stop
from sensor_msgs.msg import CameraInfo

from pose_node.models.fetch import cached_model_path
from pose_node.ros.messages import to_stamp_ns
from pose_node.ros.transport import prepare_process

PATIENCE = 60.0  # seconds for people to come again


class Watcher(Listener):
    """Hears of images too, by their small CameraInfo."""

    def __init__(self) -> None:
        super().__init__()
        self._first_image_ns: int | None = None
        self.create_subscription(CameraInfo, "camera_info", self._on_camera_info, 10)

    def forget(self) -> None:
        """What comes from now on is the first."""
        self._first_image_ns = None
        self.ages_ms.clear()

    def wait_for_people(self) -> float:
        """Receive until people have come. Returns the seconds since the first image.

        Raises:
            SystemExit: none came.
        """
        if not self.spin(PATIENCE, lambda: len(self.ages_ms) > 0):
            raise SystemExit(f"expected people within {PATIENCE:g} s, none came")
        age = self.ages_ms[0] / 1e3
        if self._first_image_ns is None:  # the node knew the camera earlier than we did
            return age
        return max(age, (self.get_clock().now().nanoseconds - self._first_image_ns) / 1e9)

    def _on_camera_info(self, message: CameraInfo) -> None:
        if self._first_image_ns is None:
            self._first_image_ns = to_stamp_ns(message.header)


def main() -> int:
    """Measure, print a table, write JSON."""
    options = _parse()
    prepare_process()
    rclpy.init()
    watcher = Watcher()
    node = camera = None
    seconds: dict[str, list[float]] = {"camera back": [], "node killed": []}
    parameters = [f"model:={options.model}", f"device:={options.device}"]
    try:
        node, camera = start_node(watcher, *parameters), _start_camera(options)
        watcher.wait_for_people()
        for _ in range(options.rounds):
            _kill(watcher, camera, options.away)
            camera = _start_camera(options)
            seconds["camera back"].append(watcher.wait_for_people())
            _kill(watcher, node, options.away)
            started = time.monotonic()
            node = start("run", parameters=parameters)
            watcher.wait_for_people()
            seconds["node killed"].append(time.monotonic() - started)
    finally:
        stop(camera, node)
        watcher.destroy_node()
        rclpy.try_shutdown()
    print(f"{options.model}, {options.rounds} rounds, seconds until people come again\n")
    print("| after | p50 | longest |\n|---|---|---|")
    for name, values in seconds.items():
        print(f"| {name} | {np.median(values):.2f} | {max(values):.2f} |")
    if options.json:
        content = {"seconds": seconds, "settings": vars(options)}
        Path(options.json).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0


def _start_camera(options: argparse.Namespace) -> subprocess.Popen[bytes]:
    rate = ("--rate", str(options.rate), "--size", options.size)
    return start("camera", options.video, "--loop", *rate)


def _kill(watcher: Watcher, process: subprocess.Popen[bytes], away: float) -> None:
    """Kill it, and wait while it is away: what it had sent arrives meanwhile and is forgotten."""
    process.kill()
    process.wait()
    watcher.spin(away)
    watcher.forget()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--away", type=float, default=5.0, help="seconds until it starts again")
    parser.add_argument("--model", default="yolo11n-pose")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--video", default=str(cached_model_path("sample-video")))
    parser.add_argument("--size", default="1280x720", help="of the images, WIDTHxHEIGHT")
    parser.add_argument("--rate", type=float, default=30.0, help="images a second")
    parser.add_argument("--json", help="write the result there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
