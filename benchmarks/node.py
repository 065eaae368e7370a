"""From camera to poses across processes: rate, age, loss and cost of the node.

    python benchmarks/node.py [--transport raw] [--without-profile]

A camera process publishes the sample video in a loop, the node runs in a process of its own, this
process receives the poses. Ages are from the image's stamp to the receipt of its people.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from processes import Listener, cpu_seconds, memory_mb, start, start_node, stop

from pose_node.models.fetch import cached_model_path
from pose_node.ros.transport import PROFILE_VARIABLES, prepare_process

WARM_UP_SECONDS = 5.0


def main() -> int:
    """Measure, print a table, write JSON."""
    options = _parse()
    if options.without_profile:
        # An empty setting of the user's own keeps ours away.
        os.environ["FASTDDS_BUILTIN_TRANSPORTS"] = "DEFAULT"
    prepare_process()
    rclpy.init()
    listener = Listener()
    node = camera = None
    try:
        started = time.monotonic()
        node = start_node(
            listener, f"model:={options.model}", f"image_transport:={options.transport}"
        )
        ready_seconds = time.monotonic() - started
        camera = start(
            *("camera", options.video, "--loop", "--rate", str(options.rate)),
            *("--size", options.size, "--transport", options.transport),
            *("--reliability", options.reliability),
        )
        result = _measure(listener, node, camera, options.seconds)
        result["seconds from start to ready"] = ready_seconds
    finally:
        stop(camera, node)
        listener.destroy_node()
        rclpy.try_shutdown()
    result |= {
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "settings": {key: str(value) for key, value in vars(options).items()},
        "profile": not options.without_profile,
    }
    _print(result)
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="yolo11n-pose")
    parser.add_argument("--video", default=str(cached_model_path("sample-video")))
    parser.add_argument("--size", default="1280x720", help="of the images, WIDTHxHEIGHT")
    parser.add_argument("--rate", type=float, default=30.0, help="images a second")
    parser.add_argument("--transport", choices=("raw", "compressed"), default="raw")
    parser.add_argument("--reliability", choices=("reliable", "best_effort"), default="reliable")
    parser.add_argument("--seconds", type=float, default=20.0, help="of measuring")
    parser.add_argument(
        "--without-profile",
        action="store_true",
        help=f"leave DDS at its defaults (or set {' or '.join(PROFILE_VARIABLES)} yourself)",
    )
    parser.add_argument("--json", help="write the result there")
    return parser.parse_args()


def _measure(
    listener: Listener,
    node: subprocess.Popen[bytes],
    camera: subprocess.Popen[bytes],
    seconds: float,
) -> dict[str, Any]:
    listener.spin(60.0, lambda: len(listener.ages_ms) > 0)
    listener.spin(WARM_UP_SECONDS)
    listener.ages_ms.clear()
    listener.people.clear()
    before = {"node": cpu_seconds(node.pid), "camera": cpu_seconds(camera.pid)}
    counts = listener.counts()
    started = time.monotonic()
    listener.spin(seconds)
    elapsed = time.monotonic() - started
    after = {"node": cpu_seconds(node.pid), "camera": cpu_seconds(camera.pid)}
    counted = {name: value - counts[name] for name, value in listener.counts().items()}
    if not listener.ages_ms:
        raise SystemExit("no poses were received")
    p50, p95, p99 = np.percentile(listener.ages_ms, (50, 95, 99))
    stages = {
        name.removesuffix(" ms p50/p95"): float(value.split(" / ")[0])
        for name, value in listener.diagnostics.items()
        if name.endswith(" ms p50/p95") and value != "-"
    }
    return {
        "poses per second": len(listener.ages_ms) / elapsed,
        "people in an image": float(np.mean(listener.people)),
        "age ms": {"p50": float(p50), "p95": float(p95), "p99": float(p99)},
        "images, by the node's count": counted,
        "stages ms p50": stages,
        "cpu ms per second": {
            name: 1e3 * (after[name] - before[name]) / elapsed for name in before
        },
        "node memory MB": memory_mb(node.pid),
    }


def _print(result: dict[str, Any]) -> None:
    print(f"node, {result['settings']['transport']} images, {result['machine']}")
    for name, value in result.items():
        if name in ("command", "machine", "settings"):
            continue
        if isinstance(value, dict):
            text = ", ".join(
                f"{key} {item:.1f}" if isinstance(item, float) else f"{key} {item}"
                for key, item in value.items()
            )
        else:
            text = f"{value:.1f}" if isinstance(value, float) else str(value)
        print(f"  {name:30} {text}")


if __name__ == "__main__":
    sys.exit(main())
