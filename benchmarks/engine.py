"""How long the engine takes from an image in memory to its people, stage by stage.

    python benchmarks/engine.py [--size 1280x720] [--peer-python ENVIRONMENT/bin/python]

Images are frames of the sample video. With ``--peer-python``, the interpreter of an environment
that has ``ultralytics`` installed, its ``predict`` runs on the same images in the same run, in
turns (A B A B ...), so that both see the same machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pose_node.process_settings import tune_process

tune_process()  # as the node does it; before torch is imported

import cv2
import numpy as np
import torch

from pose_node import PoseEngine
from pose_node.models.fetch import cached_model_path

NUM_IMAGES = 16


def main() -> int:
    """Measure, print a table, write JSON."""
    options = _parse()
    width, height = (int(side) for side in options.size.split("x"))
    images = read_images(Path(options.video), width, height)
    engine = PoseEngine.load(
        options.model, device=options.device, half=options.half, image_size=options.image_size
    )
    people = [len(engine([image])[0]) for image in images]  # warms up, too
    peer = Peer(options, images) if options.peer_python else None
    ours, stages, theirs = _measure(engine, images, peer, options.rounds, options.calls)

    result: dict[str, Any] = {
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
        "machine": f"{platform.processor() or platform.machine()}, {engine.device_description}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "model": engine.model_name,
        "size": options.size,
        "image_size": options.image_size,
        "people": people,
        "engine_ms": summary(ours),
        "stages_ms": {name: summary(values) for name, values in stages.items()},
    }
    if peer is not None:
        result["peer"] = peer.about
        result["peer_ms"] = summary(theirs)
        result["ratio_of_medians"] = float(np.median(ours) / np.median(theirs))
        peer.close()
    _print(result)
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="yolo11n-pose")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--half", action="store_true", help="in float16, on NVIDIA GPUs")
    parser.add_argument("--size", default="1280x720", help="of the images, WIDTHxHEIGHT")
    parser.add_argument("--image-size", type=int, default=640, help="of the network's input")
    parser.add_argument("--video", default=str(cached_model_path("sample-video")))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--calls", type=int, default=NUM_IMAGES, help="in each round")
    parser.add_argument("--peer-python", help="interpreter with ultralytics, to compare with")
    parser.add_argument("--json", help="write the result there")
    return parser.parse_args()


def read_images(video: Path, width: int, height: int) -> list[np.ndarray]:
    """The first frames of a video, resized."""
    capture = cv2.VideoCapture(str(video))
    images: list[np.ndarray] = []
    while len(images) < NUM_IMAGES:
        there, image = capture.read()
        if not there:
            raise SystemExit(f"{video} has {len(images)} readable frames, {NUM_IMAGES} are needed")
        images.append(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    return images


def _measure(
    engine: PoseEngine, images: list[np.ndarray], peer: Peer | None, rounds: int, calls: int
) -> tuple[list[float], dict[str, list[float]], list[float]]:
    """Seconds of each call of the engine, of its stages, and of each call of the peer."""
    ours: list[float] = []
    theirs: list[float] = []
    stages: dict[str, list[float]] = {}
    for _ in range(rounds):
        for index in range(calls):
            image = images[index % len(images)]
            started = time.perf_counter()
            engine([image])
            ours.append(time.perf_counter() - started)
            for name, seconds in engine.stage_times.items():
                stages.setdefault(name, []).append(seconds)
        if peer is not None:
            theirs += peer.run(calls)
    return ours, stages, theirs


class Peer:
    """The other program, waiting in its own process."""

    def __init__(self, options: argparse.Namespace, images: list[np.ndarray]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "images.npy"
        np.save(path, np.stack(images))
        model = cached_model_path(options.model)
        script = Path(__file__).with_name("peer.py")
        command = [options.peer_python, script, model, path, options.image_size, options.device]
        self._process = subprocess.Popen(
            [*(str(part) for part in command), *(["half"] if options.half else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.about: dict[str, Any] = self._answer()

    def run(self, calls: int) -> list[float]:
        """Seconds of so many predictions."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{calls}\n")
        self._process.stdin.flush()
        return list(map(float, self._answer()))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        self._folder.cleanup()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(("{", "[")):
                return json.loads(line)
        raise SystemExit(f"the other program ended with code {self._process.wait()}")


def summary(seconds: list[float]) -> dict[str, float]:
    """Median, 5th and 95th percentile in milliseconds."""
    low, middle, high = np.percentile(np.array(seconds) * 1e3, (5, 50, 95))
    return {"p5": float(low), "p50": float(middle), "p95": float(high), "calls": len(seconds)}


def _print(result: dict[str, Any]) -> None:
    print(f"{result['model']}, {result['size']} image to people, {result['machine']}")
    rows = {"engine, all": result["engine_ms"]}
    rows.update({f"  {name}": values for name, values in result["stages_ms"].items()})
    if "peer_ms" in result:
        rows[f"ultralytics {result['peer']['ultralytics']} predict"] = result["peer_ms"]
    print(f"{'ms':34}{'p5':>8}{'p50':>8}{'p95':>8}")
    for name, row in rows.items():
        print(f"{name:34}{row['p5']:8.2f}{row['p50']:8.2f}{row['p95']:8.2f}")
    if "ratio_of_medians" in result:
        print(f"engine / ultralytics, medians: {result['ratio_of_medians']:.3f}")


if __name__ == "__main__":
    sys.exit(main())
