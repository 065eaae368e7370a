"""From camera to poses across processes: rate, age, loss and cost of the node.

    python benchmarks/node.py [--transport raw compressed] [--cameras 1 2 4] [--plot node.png]

Camera processes publish the sample video in a loop, the node runs in a process of its own, this
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
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from processes import Listener, cpu_seconds, memory_mb, start, start_node, stop

from pose_node.models.fetch import cached_model_path
from pose_node.ros.transport import PROFILE_VARIABLES, prepare_process

WARM_UP_SECONDS = 5.0


def main() -> int:
    """Measure, print a table, write JSON, draw."""
    options = _parse()
    if options.without_profile:
        # An empty setting of the user's own keeps ours away.
        os.environ["FASTDDS_BUILTIN_TRANSPORTS"] = "DEFAULT"
    prepare_process()
    rclpy.init()
    runs = [
        _run(options, transport, count)
        for transport in options.transport
        for count in options.cameras
        for _ in range(options.repeat)
    ]
    rclpy.try_shutdown()
    result = {
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "settings": {key: str(value) for key, value in vars(options).items()},
        "profile": not options.without_profile,
        "runs": runs,
    }
    _print(result)
    if options.plot:
        draw(result, Path(options.plot))
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def _run(options: argparse.Namespace, transport: str, count: int) -> dict[str, Any]:
    names = [""] if count == 1 else [f"camera{number}" for number in range(count)]
    listener = Listener(names)
    node = None
    cameras: list[subprocess.Popen[bytes]] = []
    try:
        started = time.monotonic()
        node = start_node(
            listener,
            *(f"model:={options.model}", f"backend:={options.backend}"),
            *(f"threads:={options.threads}", f"half:={str(options.half).lower()}"),
            f"image_transport:={transport}",
            f"cameras:=[{', '.join(repr(name) for name in names)}]",
        )
        ready_seconds = time.monotonic() - started
        for name in names:
            topic = f"{name}/image_raw".removeprefix("/")
            camera = start(
                *("camera", options.video, "--loop", "--rate", str(options.rate)),
                *("--size", options.size, "--transport", transport),
                *("--reliability", options.reliability),
                remappings=(f"image_raw:={topic}", f"image_raw/compressed:={topic}/compressed"),
            )
            cameras.append(camera)
        result = _measure(listener, node, cameras, options.seconds)
    finally:
        stop(*cameras, node)
        listener.destroy_node()
    about = {"transport": transport, "cameras": count}
    return {**about, **result, "seconds from start to ready": ready_seconds}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="yolo11n-pose")
    parser.add_argument("--video", default=str(cached_model_path("sample-video")))
    parser.add_argument("--size", default="1280x720", help="of the images, WIDTHxHEIGHT")
    parser.add_argument("--rate", type=float, default=30.0, help="images a second")
    parser.add_argument(
        "--transport", nargs="+", choices=("raw", "compressed"), default=["raw"], metavar="KIND"
    )
    parser.add_argument("--cameras", type=int, nargs="+", default=[1], help="how many, in turn")
    parser.add_argument("--repeat", type=int, default=1, help="of each run")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--half", action="store_true", help="in 16 bits")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--reliability", choices=("reliable", "best_effort"), default="reliable")
    parser.add_argument("--seconds", type=float, default=20.0, help="of measuring")
    parser.add_argument(
        "--without-profile",
        action="store_true",
        help=f"leave DDS at its defaults (or set {' or '.join(PROFILE_VARIABLES)} yourself)",
    )
    parser.add_argument("--json", help="write the result there")
    parser.add_argument("--plot", help="draw the result there (PNG)")
    return parser.parse_args()


def _measure(
    listener: Listener,
    node: subprocess.Popen[bytes],
    cameras: list[subprocess.Popen[bytes]],
    seconds: float,
) -> dict[str, Any]:
    listener.spin(60.0, lambda: len(listener.ages_ms) > 0)
    listener.spin(WARM_UP_SECONDS)
    listener.ages_ms.clear()
    listener.people.clear()
    listener.cameras.clear()
    before = _cpu_seconds(node, cameras)
    counts = listener.counts()
    started = time.monotonic()
    listener.spin(seconds)
    elapsed = time.monotonic() - started
    after = _cpu_seconds(node, cameras)
    counted = {name: value - counts[name] for name, value in listener.counts().items()}
    if not listener.ages_ms:
        raise SystemExit("no poses were received")
    p50, p95, p99 = np.percentile(listener.ages_ms, (50, 95, 99))
    stages = {
        name.removesuffix(" ms p50/p95"): float(value.split(" / ")[0])
        for name, value in listener.diagnostics.items()
        if name.endswith(" ms p50/p95") and value != "-"
    }
    used = {name: after[name] - before[name] for name in before}
    return {
        "poses per second": len(listener.ages_ms) / elapsed,
        "poses per second by camera": {
            name: count / elapsed for name, count in sorted(Counter(listener.cameras).items())
        },
        "people in an image": float(np.mean(listener.people)),
        "age ms": {"p50": float(p50), "p95": float(p95), "p99": float(p99)},
        "images, by the node's count": counted,
        "stages ms p50": stages,
        "cpu ms per second": {name: 1e3 * seconds / elapsed for name, seconds in used.items()},
        "cpu ms of the node per image": 1e3 * used["node"] / len(listener.ages_ms),
        "node memory MB": memory_mb(node.pid),
        "backend": listener.diagnostics.get("backend", ""),
        "ages ms": list(listener.ages_ms),
    }


def _cpu_seconds(
    node: subprocess.Popen[bytes], cameras: list[subprocess.Popen[bytes]]
) -> dict[str, float]:
    return {
        "node": cpu_seconds(node.pid),
        "cameras": sum(cpu_seconds(camera.pid) for camera in cameras),
    }


def _print(result: dict[str, Any]) -> None:
    print(f"node, {result['settings']['size']}, {result['machine']}\n")
    print(
        "| images | cameras | poses/s | age p50 | p95 | p99 ms | lost | replaced "
        "| CPU ms/image | memory MB | ready s |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    for run in result["runs"]:
        age, counted = run["age ms"], run["images, by the node's count"]
        print(
            f"| {run['transport']} | {run['cameras']} | {run['poses per second']:.1f} | "
            f"{age['p50']:.0f} | {age['p95']:.0f} | {age['p99']:.0f} | {counted['lost']} | "
            f"{counted['replaced']} | {run['cpu ms of the node per image']:.0f} | "
            f"{run['node memory MB']:.0f} | {run['seconds from start to ready']:.1f} |"
        )
    if max(run["cameras"] for run in result["runs"]) > 1:
        print("\nposes a second of each camera:")
        for run in result["runs"]:
            rates = ", ".join(f"{rate:.1f}" for rate in run["poses per second by camera"].values())
            print(f"- {run['transport']}, {run['cameras']} cameras: {rates}")
    print("\np50 ms of the stages, by the node's own count:")
    for run in result["runs"]:
        stages = ", ".join(f"{name} {value:.1f}" for name, value in run["stages ms p50"].items())
        print(f"- {run['transport']}, {run['cameras']} cameras, {run['backend']}: {stages}")


def draw(result: dict[str, Any], path: Path) -> None:
    """Distribution of the ages, and what more cameras cost."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for run in result["runs"]:
        ages = np.sort(run["ages ms"])
        label = f"{run['transport']}, {run['cameras']} cameras"
        left.plot(ages, np.linspace(0, 100, len(ages)), label=label)
    left.set(xlabel="ms from the stamp to the receipt of the people", ylabel="% of the images")
    left.legend()
    for transport in dict.fromkeys(run["transport"] for run in result["runs"]):
        runs = [run for run in result["runs"] if run["transport"] == transport]
        costs = [run["cpu ms of the node per image"] for run in runs]
        right.plot([run["cameras"] for run in runs], costs, "o-", label=transport)
    right.set(xlabel="cameras", ylabel="CPU ms of the node per image", ylim=(0, None))
    right.legend()
    settings = result["settings"]
    precision = ", in 16 bits" if settings["half"] == "True" else ""
    title = f"{settings['model']}{precision}, {settings['size']}, {settings['rate']} Hz"
    figure.suptitle(title)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    sys.exit(main())
