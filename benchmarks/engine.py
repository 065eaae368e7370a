"""How long the engine takes from an image in memory to its people.

    python benchmarks/engine.py [--backends torch openvino int8.xml] [--sizes 1280x720 ...]
    python benchmarks/engine.py --peer-python ENVIRONMENT/bin/python --plot engine.png

Everything is run in turns (A B A B ...), so that all see the same machine: backends, which may be
files of exported networks, and with ``--peer-python``, the interpreter of an environment that has
``ultralytics`` installed, its ``predict`` on the same images. Further tables: sizes of the images,
images in one call, and people in view. Images are frames of the sample video; for the last table,
one person of it is put into an empty image as often as asked for.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pose_node.process_settings import tune_process

tune_process()  # as the node does it; before torch is imported

import cv2
import numpy as np
import torch

from pose_node import PoseEngine
from pose_node.inference.backends import candidates
from pose_node.inference.recorded import REPETITIONS
from pose_node.models.fetch import cached_model_path

NUM_IMAGES = 16
Table = dict[str, dict[str, dict[str, float]]]
"""Name of a row and of a column to a summary."""

PEER = "ultralytics predict"


def main() -> int:
    """Measure, print tables, write JSON, draw."""
    options = _parse()
    engines = {Path(name).stem: _load(name, options) for name in options.backends}
    video = Path(options.video)
    images = read_images(video, *_sides(options.sizes[0]))
    for engine in engines.values():
        engine.warm_up([_sides(size) for size in options.sizes])
    peer = Peer(options, images) if options.peer_python else None
    latencies, stages = _take_turns(engines, peer, images, options.rounds)
    result: dict[str, Any] = {
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
        "machine": f"{platform.machine()}, {next(iter(engines.values())).device_description}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "model": options.model,
        "image_size": options.image_size,
        "ms": {name: summary(values) for name, values in latencies.items()},
        "stages_ms": stages,
    }
    if peer is not None:
        result["peer"] = peer.about
        theirs = np.median(latencies[PEER])
        result["share_of_peer"] = {
            name: float(np.median(values) / theirs) for name, values in latencies.items()
        }
        peer.close()
    result["sizes"] = _compare(
        engines, {size: [[i] for i in read_images(video, *_sides(size))] for size in options.sizes}
    )
    result["images in a call"] = _compare(
        engines, {str(n): [images[:n]] * (NUM_IMAGES // n) for n in options.batches}
    )
    result["people"] = _compare(engines, _crowds(next(iter(engines.values())), images, options))
    _print(result)
    if options.json:
        result["samples_ms"] = {name: [1e3 * s for s in v] for name, v in latencies.items()}
        Path(options.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if options.plot:
        draw(result, latencies, Path(options.plot))
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="yolo11n-pose")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--half", action="store_true", help="all in 16 bits, the peer too")
    parser.add_argument(
        "--backends",
        nargs="+",
        help="names, or files of exported networks (all installed ones); NAME:half is in 16 bits",
    )
    parser.add_argument("--threads", type=int, help="of the network on the CPU")
    parser.add_argument(
        *("--sizes", "--size"),
        nargs="+",
        default=["1280x720", "640x480", "1920x1080"],
        help="of the images, WIDTHxHEIGHT; the first for all other tables",
    )
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--people", type=int, nargs="*", default=[0, 1, 5, 10, 20, 50])
    parser.add_argument("--image-size", type=int, default=640, help="of the network's input")
    parser.add_argument("--video", default=str(cached_model_path("sample-video")))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--peer-python", help="interpreter with ultralytics, to compare with")
    parser.add_argument("--json", help="write the result there")
    parser.add_argument("--plot", help="draw the result there (PNG)")
    options = parser.parse_args()
    if options.backends is None:
        options.backends = ["torch", *candidates(torch.device(options.device))]
    return options


def _sides(size: str) -> tuple[int, int]:
    width, _, height = size.partition("x")
    return int(width), int(height)


def _load(name: str, options: argparse.Namespace) -> PoseEngine:
    name, colon, precision = name.partition(":")
    if colon and precision != "half":
        raise SystemExit(f"expected NAME or NAME:half, got {name}:{precision}")
    file = Path(name)
    which = {"model": file} if file.suffix else {"model": options.model, "backend": name}
    return PoseEngine.load(
        **which,
        device=options.device,
        half=options.half or bool(colon),
        image_size=options.image_size,
        threads=options.threads,
    )


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


def _take_turns(
    engines: dict[str, PoseEngine], peer: Peer | None, images: list[np.ndarray], rounds: int
) -> tuple[dict[str, list[float]], Table]:
    """Seconds of each call of each engine and of the peer, and a summary of the engines' stages."""
    latencies: dict[str, list[float]] = {name: [] for name in engines}
    stages: dict[str, dict[str, list[float]]] = {name: {} for name in engines}
    for _ in range(rounds):
        for name, engine in engines.items():
            for image in images:
                latencies[name].append(_seconds(engine, [image]))
                for stage, seconds in engine.stage_times.items():
                    stages[name].setdefault(stage, []).append(seconds)
        if peer is not None:
            latencies.setdefault(PEER, []).extend(peer.run(len(images)))
    return latencies, {
        name: {stage: summary(values) for stage, values in found.items()}
        for name, found in stages.items()
    }


def _compare(
    engines: dict[str, PoseEngine], calls: dict[str, list[list[np.ndarray]]], rounds: int = 4
) -> Table:
    """Each column's calls by each engine, in turns; of a call, the time for one image."""
    seconds: dict[tuple[str, str], list[float]] = {}
    for column in calls:
        for engine in engines.values():
            for _ in range(2 * REPETITIONS):  # the first calls of a size set up
                engine(calls[column][0])
    for _ in range(rounds):
        for column, batches in calls.items():
            for name, engine in engines.items():
                measured = [_seconds(engine, batch) / len(batch) for batch in batches]
                seconds.setdefault((name, column), []).extend(measured)
    return {name: {column: summary(seconds[name, column]) for column in calls} for name in engines}


def _seconds(engine: PoseEngine, images: Sequence[np.ndarray]) -> float:
    started = time.perf_counter()
    engine(images)
    return time.perf_counter() - started


def _crowds(
    engine: PoseEngine, images: list[np.ndarray], options: argparse.Namespace
) -> dict[str, list[list[np.ndarray]]]:
    """Images with as many people as asked for, by how many the first engine finds in them."""
    people = engine([images[0]])[0]
    left, top, right, bottom = people.boxes_xyxy[0].astype(int)
    person = images[0][top:bottom, left:right]
    height, width = images[0].shape[:2]
    found: dict[str, list[list[np.ndarray]]] = {}
    for count in options.people:
        scale, columns, rows = _largest_tiles(
            max(1, count), person.shape[1] / width, person.shape[0] / height
        )
        small = cv2.resize(person, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        image = np.full_like(images[0], 114)
        for index in range(count):
            y, x = index // columns * height // rows, index % columns * width // columns
            image[y : y + small.shape[0], x : x + small.shape[1]] = small
        found[str(len(engine([image])[0]))] = [[image]] * NUM_IMAGES
    return found


def _largest_tiles(count: int, width: float, height: float) -> tuple[float, int, int]:
    """How equal boxes, their sides in parts of the image's, fill it best: scale, columns, rows."""
    grids = [(columns, -(-count // columns)) for columns in range(1, count + 1)]
    return max(
        (min(1 / columns / width, 1 / rows / height, 1.0), columns, rows) for columns, rows in grids
    )


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


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles in milliseconds."""
    low, middle, high, highest = np.percentile(np.array(seconds) * 1e3, (5, 50, 95, 99))
    return {"p5": low, "p50": middle, "p95": high, "p99": highest, "calls": len(seconds)}


def _print(result: dict[str, Any]) -> None:
    print(f"{result['model']}, from image to people, {result['machine']}\n")
    share = result.get("share_of_peer", {})
    print("| ms | p5 | p50 | p95 | p99 | share of the peer |\n|---|---|---|---|---|---|")
    for name, row in result["ms"].items():
        part = f"{share[name]:.2f}" if name in share else ""
        print(f"| {name} | {_cells(row)} | {part} |")
        for stage, values in result["stages_ms"].get(name, {}).items():
            print(f"| - {stage} | {_cells(values)} | |")
    for title in ("sizes", "images in a call", "people"):
        table: Table = result[title]
        columns = next(iter(table.values()))
        print(f"\n| {title}: p50 ms of an image | {' | '.join(columns)} |")
        print("|---" * (len(columns) + 1) + "|")
        for name, row in table.items():
            cells = " | ".join(format(cell["p50"], ".1f") for cell in row.values())
            print(f"| {name} | {cells} |")


def _cells(row: dict[str, float]) -> str:
    return " | ".join(f"{row[name]:.2f}" for name in ("p5", "p50", "p95", "p99"))


def draw(result: dict[str, Any], latencies: dict[str, list[float]], path: Path) -> None:
    """Distribution of the latency; what size, number and people of the images cost."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 4, figsize=(18, 4.2), layout="constrained")
    for name, seconds in latencies.items():
        ordered = np.sort(np.array(seconds) * 1e3)
        axes[0].plot(ordered, np.linspace(0, 100, len(ordered)), label=name)
    axes[0].set(xlabel="ms from image to people", ylabel="% of the images")
    axes[0].set_xlim(0, 1.1 * max(row["p95"] for row in result["ms"].values()))
    axes[0].legend(fontsize="small", framealpha=0.5)
    for axis, title in zip(axes[1:], ("sizes", "images in a call", "people"), strict=True):
        for name, row in result[title].items():
            axis.plot(list(row), [cell["p50"] for cell in row.values()], "o-", label=name)
        axis.set(xlabel=title, ylabel="p50 ms of an image", ylim=(0, None))
    figure.suptitle(f"{result['model']}, {result['machine']}")
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    sys.exit(main())
