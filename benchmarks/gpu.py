"""How long an NVIDIA GPU takes from camera bytes to people, as one graph and in its parts.

    python benchmarks/gpu.py [--model yolo11n-pose] [--peer-python ENVIRONMENT/bin/python]
    python benchmarks/gpu.py --architecture yolo11/x     random weights: where no file is at hand

One run, some minutes, answers: people in host memory from bytes in host memory (median, 99th
percentile) by image size and batch, as a graph, without, and step by step as on the CPU; the parts
of the graph by CUDA events beside the bare network; Triton's kernels beside torch's operators; cost
by people in view; memory; the largest difference from the CPU in pixels; with ``--join`` and
``--compile`` the bare network in other forms; with ``--peer-python`` the `predict` of ultralytics
in the same precision, in turns.
``--device cpu`` tries the program itself out, nothing else.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engine import Peer, read_images, summary  # first: it tunes the process before torch comes

# isort: split

import numpy as np
import torch

from pose_node import PoseEngine, Poses
from pose_node.inference.device_engine import DeviceEngine
from pose_node.inference.device_pipeline import DevicePipeline
from pose_node.inference.device_suppression import select_candidates, suppress
from pose_node.models.architectures import describe_architecture, random_network
from pose_node.models.fetch import cached_model_path

Milliseconds = dict[str, float]
CANDIDATES_EACH = 12  # rows that a network proposes for one person, about


def main() -> int:
    """Measure, print tables, write JSON and a plot."""
    options = _parse()
    used_before = memory_used(options)
    with torch.inference_mode():
        engine = load(options)
        # First: nothing else has taken memory, and cuDNN tries its algorithms before any has run.
        memory = measure_memory(engine, options, used_before)
        images = {size: read_or_make(options, size) for size in options.sizes}
        calibrate(engine, options, images[options.sizes[0]][0])
        first = images[options.sizes[0]]
        result: dict[str, Any] = {
            "command": " ".join([Path(sys.executable).name, *sys.argv]),
            "date": time.strftime("%Y-%m-%d"),
            "machine": f"{platform.processor() or platform.machine()}, {engine.device_description}",
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
            "model": engine.model_name,
            "half": engine.half,
            "memory": memory,
        }
        result["calls"] = [
            measure_calls(engine, options, images[size], size, batch)
            for size in options.sizes
            for batch in options.batches
        ]
        result["parts"] = [
            measure_parts(engine, options, first, batch)
            for batch in (options.batches[0], options.batches[-1])
        ]
        result["people"] = [measure_people(engine, options, n) for n in (0, 1, 5, 10, 20, 50)]
        result["difference"] = compare_with_cpu(engine, options, first)
        if options.peer_python and not options.architecture:
            result["peer"] = measure_peer(engine, options, first)
    report(result)
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if options.plot:
        plot(result, options.plot)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="yolo11n-pose")
    parser.add_argument("--architecture", help="FAMILY/SIZE with random weights, not --model")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--full", action="store_true", help="compute in float32, not float16")
    parser.add_argument("--sizes", nargs="+", default=["1280x720", "640x480", "1920x1080"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--image-size", type=int, default=640, help="of the network's input")
    parser.add_argument("--video", default=str(cached_model_path("sample-video")))
    parser.add_argument("--calls", type=int, default=400, help="of each measurement")
    parser.add_argument("--join", action="store_true", help="bias and activation joined, too")
    parser.add_argument("--compile", action="store_true", help="torch.compile, too; takes minutes")
    parser.add_argument("--peer-python", help="interpreter with ultralytics, to compare with")
    parser.add_argument("--json", help="write the result there")
    parser.add_argument("--plot", help="write a picture of the result there (PNG)")
    return parser.parse_args()


def load(options: argparse.Namespace) -> PoseEngine:
    """The engine, of a file or of an architecture."""
    half = options.device != "cpu" and not options.full
    if not options.architecture:
        return PoseEngine.load(
            options.model, device=options.device, half=half, image_size=options.image_size
        )
    family, size = options.architecture.split("/")
    network = random_network(describe_architecture(family, size)).fuse()
    network.to(options.device, torch.float16 if half else torch.float32)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return PoseEngine(
        network,
        device=torch.device(options.device),
        half=half,
        image_size=options.image_size,
        model_name=f"{options.architecture}, random",
    )


def read_or_make(options: argparse.Namespace, size: str) -> list[np.ndarray]:
    """Frames of the video; without it, noise, which takes as long."""
    width, height = (int(side) for side in size.split("x"))
    if Path(options.video).is_file():
        return read_images(Path(options.video), width, height)
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(16)]


def calibrate(engine: PoseEngine, options: argparse.Namespace, image: np.ndarray) -> None:
    """Give random weights a threshold above which they see some twenty candidates."""
    on_device(engine)
    if options.architecture:
        rows = start(engine, [image]).program.pipeline.rows
        scores = rows[0, :, 4 : 4 + engine.network.num_classes].amax(1)
        engine.score_threshold = float(scores.sort(descending=True).values[20])


def on_device(engine: PoseEngine, *, graphs: bool = True, kernels: bool = True) -> DeviceEngine:
    """Give the engine a new way over the device."""
    device = torch.device(engine.device)
    new = DeviceEngine(engine.network, device=device, half=engine.half)
    if not kernels:
        new._kernels = None
    if not graphs and new._graphs:
        new._graphs.why_not = "measured without"
    engine._on_device = new
    return new


def start(engine: PoseEngine, images: Sequence[np.ndarray]) -> Any:
    """Set the device to work on a batch, and wait."""
    assert engine._on_device is not None
    started = engine._on_device.start(
        [(image, "bgr") for image in images],
        [engine._fit(*image.shape[:2]) for image in images],
        score_threshold=engine.score_threshold,
        iou_threshold=engine.iou_threshold,
        classes=engine.classes,
        max_people=engine.max_people,
    )
    engine._on_device.wait(started)
    return started


# --- Measurements ---------------------------------------------------------------------------------


def percentiles(milliseconds: Sequence[float]) -> Milliseconds:
    """Median, 95th and 99th percentile, and how many there were."""
    middle, high, highest = np.percentile(np.array(milliseconds), (50, 95, 99))
    count = float(len(milliseconds))
    return {"p50": float(middle), "p95": float(high), "p99": float(highest), "calls": count}


def time_calls(call: Callable[[int], object], calls: int) -> Milliseconds:
    """By the clock of the host."""
    for index in range(10):
        call(index)
    times = []
    for index in range(calls):
        started = time.perf_counter()
        call(index)
        times.append((time.perf_counter() - started) * 1e3)
    return percentiles(times)


def time_on_device(engine: PoseEngine, work: Callable[[], object], calls: int) -> Milliseconds:
    """By CUDA events around work that the device does by itself."""
    graphs = engine._on_device._graphs if engine._on_device else None
    if graphs is None:
        return time_calls(lambda _: work(), calls)
    run = graphs.record(work)
    pairs = []
    with torch.cuda.stream(graphs.stream):
        for _ in range(calls + 10):
            pair = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            pair[0].record()
            run()
            pair[1].record()
            pairs.append(pair)
        graphs.stream.synchronize()
    return percentiles([begin.elapsed_time(end) for begin, end in pairs[10:]])


def measure_calls(
    engine: PoseEngine, options: argparse.Namespace, images: list[np.ndarray], size: str, batch: int
) -> dict[str, Any]:
    """Bytes in host memory to people in host memory, in three ways."""

    def call(index: int) -> list[Poses]:
        return engine([images[(index + offset) % len(images)] for offset in range(batch)])

    row: dict[str, Any] = {"size": size, "batch": batch}
    on_device(engine)
    row["graph"] = time_calls(call, options.calls)
    row["why_no_graph"] = engine._on_device.why_not if engine._on_device else None
    on_device(engine, graphs=False)
    row["no graph"] = time_calls(call, max(options.calls // 4, 1))
    engine._on_device = None
    row["step by step"] = time_calls(call, max(options.calls // 4, 1))
    return row


def measure_parts(
    engine: PoseEngine, options: argparse.Namespace, images: list[np.ndarray], batch: int
) -> dict[str, Any]:
    """What the parts of the graph take, each recorded as a graph of its own."""
    chosen = [images[index % len(images)] for index in range(batch)]
    way = on_device(engine, kernels=False)
    without = start(engine, chosen).program.pipeline
    row: dict[str, Any] = {"batch": batch}
    row["letterbox, torch"] = time_on_device(engine, without.draw, options.calls)
    row["people, torch"] = time_on_device(engine, without.select, options.calls)
    way = on_device(engine)
    row["why_no_kernels"] = way.why_no_kernels
    program = start(engine, chosen).program
    pipeline: DevicePipeline = program.pipeline
    drawn = pipeline.draw()
    row["bytes to pinned memory and on"] = time_calls(lambda _: program.upload(chosen), 100)
    row["letterbox"] = time_on_device(engine, pipeline.draw, options.calls)
    network = engine.network
    row["bare network"] = time_on_device(engine, lambda: network(drawn), options.calls)
    row["network and decoding"] = time_on_device(
        engine, lambda: pipeline.infer(drawn), options.calls
    )
    row["people"] = time_on_device(engine, pipeline.select, options.calls)
    row["all"] = time_on_device(engine, pipeline, options.calls)
    if options.join:
        from joined_convolution import join

        other: Any = copy.deepcopy(network)
        join(other)
        row["bare network, joined"] = time_on_device(engine, lambda: other(drawn), options.calls)
    if options.compile:
        compiled: Any = torch.compile(network)
        row["bare network, compiled"] = time_on_device(
            engine, lambda: compiled(drawn), options.calls
        )
    return row


def measure_people(engine: PoseEngine, options: argparse.Namespace, count: int) -> dict[str, Any]:
    """Selection and suppression with so many people in view, each proposed several times."""
    network, device = engine.network, torch.device(engine.device)
    way = on_device(engine)
    left = torch.arange(count).repeat_interleave(CANDIDATES_EACH) * 12.0
    rows = torch.zeros(1, 5040, 4 + network.num_classes)  # as many as of an input of 640 x 384
    there = rows[0, : len(left)]
    there[:, 0], there[:, 1] = left + torch.rand(len(left)), torch.rand(len(left))
    there[:, 2:4] = there[:, :2] + 10
    there[:, 4] = 0.5 + 0.5 * torch.rand(len(left))
    rows = rows[:, torch.randperm(rows.shape[1])].to(device)
    settings = way._settings
    settings.set(0.3, 0.65, None)
    found: list[torch.Tensor] = []

    def work() -> None:
        candidates = select_candidates(
            rows,
            num_classes=network.num_classes,
            limit=1024,
            score_threshold=settings.score_threshold,
            wanted=settings.wanted,
        )
        kept = suppress(
            candidates,
            iou_threshold=settings.iou_threshold,
            max_kept=128,
            kernels=way._kernels,
        )
        found[:] = [kept.count]

    work()
    people = int(found[0])
    return {"people": people, "time": time_on_device(engine, work, options.calls)}


def measure_memory(
    engine: PoseEngine, options: argparse.Namespace, before: int | None
) -> dict[str, float]:
    """Seconds to prepare as the node does, for the largest batch, and MB of the device after it."""
    began = time.perf_counter()
    engine.warm_up(batch=max(options.batches))
    result = {"warm-up, s": time.perf_counter() - began}
    after = memory_used(options)
    if before is None or after is None:
        return result
    torch_now, torch_most = torch.cuda.memory_reserved(), torch.cuda.max_memory_reserved()
    sizes = {"torch": torch_now / 2**20, "torch, at most": torch_most / 2**20}
    return {**result, "process": after - before, **sizes}


def memory_used(options: argparse.Namespace) -> int | None:
    """MiB of the first GPU that are in use, by whomever; None where that cannot be told."""
    if options.device == "cpu":
        return None
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", "0"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return int(said.split()[0])
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
        return None


def compare_with_cpu(
    engine: PoseEngine, options: argparse.Namespace, images: list[np.ndarray]
) -> dict[str, float]:
    """People here and on the CPU in float32; largest difference of sure keypoints in pixels."""
    if options.architecture:
        return {}
    on_device(engine)
    plain = PoseEngine.load(options.model, device="cpu", image_size=options.image_size)
    here = there = 0
    largest = 0.0
    for image in images[:8]:
        for _ in range(4):  # the last one as a graph
            (found,) = engine([image])
        (expected,) = plain([image])
        here, there = here + len(found), there + len(expected)
        for box, points in zip(expected.boxes_xyxy, expected.keypoints, strict=True):
            if len(found):
                nearest = np.abs(found.boxes_xyxy - box).max(1).argmin()
                apart = np.abs(found.keypoints[nearest] - points)[points[:, 2] > 0.5, :2]
                largest = max(largest, float(apart.max(initial=0)))
    return {"people here": here, "people on the CPU": there, "pixels": largest}


def measure_peer(
    engine: PoseEngine, options: argparse.Namespace, images: list[np.ndarray]
) -> dict[str, Any]:
    """The other program in the same precision, in turns with the engine."""
    options.half = engine.half
    peer = Peer(options, images)
    on_device(engine)
    ours: list[float] = []
    theirs: list[float] = []
    for index in range(10):
        engine([images[index % len(images)]])
    for _ in range(8):
        for index in range(50):
            began = time.perf_counter()
            engine([images[index % len(images)]])
            ours.append(time.perf_counter() - began)
        theirs += peer.run(50)
    peer.close()
    ratio = float(np.median(theirs) / np.median(ours))
    about = {**peer.about, "times faster": ratio}
    return {"about": about, "engine": summary(ours), "ultralytics": summary(theirs)}


# --- Results --------------------------------------------------------------------------------------


def report(result: dict[str, Any]) -> None:
    """Print tables."""
    precision = "float16" if result["half"] else "float32"
    print(f"{result['model']}, {precision}, {result['machine']}, torch {torch.__version__}")
    print(f"\n{'bytes to people, ms':28}{'p50':>9}{'p95':>9}{'p99':>9}")
    for row in result["calls"]:
        for way in ("graph", "no graph", "step by step"):
            print(_line(f"{row['size']} x {row['batch']}, {way}", row[way]))
        if row["why_no_graph"]:
            print(f"  {row['why_no_graph']}")
    for row in result["parts"]:
        print(f"\n{'on the device, batch ' + str(row['batch']):28}{'p50':>9}{'p95':>9}{'p99':>9}")
        for name, times in row.items():
            if isinstance(times, dict):
                print(_line(name, times))
        print(f"all / bare network: {row['all']['p50'] / row['bare network']['p50']:.3f}")
        if row["why_no_kernels"]:
            print(f"  {row['why_no_kernels']}")
    print("\nselection and suppression by people, ms p50:")
    print("  " + ", ".join(f"{r['people']}: {r['time']['p50']:.3f}" for r in result["people"]))
    for name in ("memory", "difference"):
        print(f"{name}: " + ", ".join(f"{k} {v:.3g}" for k, v in result[name].items()))
    if "peer" in result:
        print(json.dumps(result["peer"]))


def _line(name: str, times: Milliseconds) -> str:
    return f"{name:28}{times['p50']:9.3f}{times['p95']:9.3f}{times['p99']:9.3f}"


def plot(result: dict[str, Any], path: str) -> None:
    """Cost by batch for each size, and by people."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for size in dict.fromkeys(row["size"] for row in result["calls"]):
        rows = [row for row in result["calls"] if row["size"] == size]
        batches = [row["batch"] for row in rows]
        middle = [row["graph"]["p50"] for row in rows]
        (line,) = left.plot(batches, middle, marker="o", label=size)
        worst = [row["graph"]["p99"] for row in rows]
        left.fill_between(batches, middle, worst, alpha=0.2, color=line.get_color())
    left.set(xlabel="images in a batch", ylabel="ms, p50 to p99", ylim=(0, None))
    left.set_title(f"{result['model']}: camera bytes to people")
    left.legend()
    people = [row["people"] for row in result["people"]]
    right.plot(people, [row["time"]["p50"] for row in result["people"]], marker="o")
    right.set(xlabel="people", ylabel="ms, p50", ylim=(0, None))
    right.set_title("selection and suppression")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
