"""Does anything grow? Camera and node run for hours, every few seconds their state is written down.

    python benchmarks/soak.py --seconds 3600 --json soak.json --plot soak.png

Ends with exit code 1 if, after the first minutes, memory grows faster than allowed, threads or file
descriptors of the node change or those of the camera become more (it opens its video again and
again, and for a moment the decoder's threads are fewer), images are lost or refused, or images are
unaccounted for. (Images replaced by newer ones are the node's way to keep up with a fast camera,
and only counted.)
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

import numpy as np
import rclpy
from processes import COUNTERS, Listener, memory_mb, start, start_node, stop

from pose_node.models.fetch import cached_model_path
from pose_node.ros.transport import prepare_process

LONGEST_WARM_UP = 300.0  # seconds; half of a shorter run
NOISE_MB = 8.0  # how far the memory of a process that does not grow wanders in some minutes
SHORT = 1 / 6  # hours; in less, growth cannot be told from noise
IN_WORK = 3  # images that have arrived and are not answered yet when the node reports

Sample = dict[str, float]


def main() -> int:
    """Run, write, judge."""
    options = _parse()
    prepare_process()
    rclpy.init()
    listener = Listener()
    node = camera = None
    samples: list[Sample] = []
    try:
        half = f"half:={str(options.half).lower()}"
        node = start_node(listener, f"model:={options.model}", f"device:={options.device}", half)
        camera = start(
            *("camera", options.video, "--loop", "--rate", str(options.rate)),
            *("--size", options.size),
        )
        listener.spin(60.0, lambda: len(listener.ages_ms) > 0)
        started = time.monotonic()
        while (elapsed := time.monotonic() - started) < options.seconds:
            listener.ages_ms.clear()
            listener.spin(min(options.interval, options.seconds - elapsed))
            samples.append(_sample(listener, node, camera, time.monotonic() - started))
            _write(options, samples, [])
            for name, process in (("node", node), ("camera", camera)):
                if process.poll() is not None:
                    print(f"soak: the {name} ended with code {process.returncode}")
                    return 1
    except KeyboardInterrupt:
        print("soak: stopped; this is what came until then")
    finally:
        stop(camera, node)
        listener.destroy_node()
        rclpy.try_shutdown()
    warm_up = min(LONGEST_WARM_UP, samples[-1]["seconds"] / 2) if samples else 0.0
    faults = judge(samples, warm_up, options.mb_per_hour)
    _write(options, samples, faults)
    if options.plot:
        _plot(samples, warm_up, Path(options.plot))
    _print(samples, warm_up, faults)
    return 1 if faults else 0


def judge(samples: list[Sample], warm_up: float, mb_per_hour: float) -> list[str]:
    """What is not as it should be, each a sentence.

    Args:
        samples: in order; "seconds" since the start, and the values of `_sample`.
        warm_up: samples of the first so many seconds are not judged.
        mb_per_hour: faster growth is a fault; in a short run, if it is more than noise.
    """
    judged = [sample for sample in samples if sample["seconds"] >= warm_up]
    if len(judged) < 3:
        return [f"only {len(judged)} samples after the first {warm_up:.0f} s, expected 3 at least"]
    faults = []
    hours = (judged[-1]["seconds"] - judged[0]["seconds"]) / 3600
    for what in ("node MB", "camera MB", "GPU MB"):
        slope = slope_per_hour(judged, what)
        if slope > mb_per_hour and (hours >= SHORT or slope * hours > NOISE_MB):
            faults.append(f"{what} grows by {slope:.2f} an hour, allowed are {mb_per_hour:g}")
    for what in ("threads", "descriptors"):
        seen = [sample[f"node {what}"] for sample in judged]
        if min(seen) != max(seen):
            faults.append(f"{what} of the node change: {min(seen):.0f} to {max(seen):.0f}")
        seen = [sample[f"camera {what}"] for sample in judged]
        before, after = max(seen[: len(seen) // 2]), max(seen[len(seen) // 2 :])
        if before < after:
            faults.append(f"{what} of the camera become more: {before:.0f}, later {after:.0f}")
    for name in ("lost", "refused"):
        if count := judged[-1][name] - judged[0][name]:
            faults.append(f"{count:.0f} images {name}")
    last = judged[-1]
    missing = last["received"] - sum(last[name] for name in COUNTERS if name != "received")
    missing += last["lost"]  # these never arrived
    if not 0 <= missing <= IN_WORK:
        faults.append(f"{missing:.0f} images came and were neither answered, replaced nor refused")
    if any(sample["poses per second"] == 0 for sample in judged):
        faults.append("there were times without any poses")
    return faults


def slope_per_hour(samples: list[Sample], what: str) -> float:
    """How fast a value grows: the line of least squares through the samples."""
    values = np.array([sample[what] for sample in samples])
    if np.isnan(values).any():
        return 0.0  # not measured here
    hours = np.array([sample["seconds"] for sample in samples]) / 3600
    return float(np.polyfit(hours, values, 1)[0])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--interval", type=float, default=10.0, help="seconds between samples")
    parser.add_argument("--model", default="yolo11n-pose")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--half", action="store_true", help="in 16 bits")
    parser.add_argument("--video", default=str(cached_model_path("sample-video")))
    parser.add_argument("--size", default="1280x720", help="of the images, WIDTHxHEIGHT")
    parser.add_argument("--rate", type=float, default=30.0, help="images a second")
    parser.add_argument("--mb-per-hour", type=float, default=1.0, help="growth that is allowed")
    parser.add_argument("--json", help="write the samples there, after each one")
    parser.add_argument("--plot", help="draw them there, as PNG or SVG")
    return parser.parse_args()


def _sample(
    listener: Listener,
    node: subprocess.Popen[bytes],
    camera: subprocess.Popen[bytes],
    seconds: float,
) -> Sample:
    ages = listener.ages_ms
    sample = {
        "seconds": seconds,
        "age p95 ms": float(np.percentile(ages, 95)) if ages else float("nan"),
        "poses per second": float(listener.diagnostics.get("output rate Hz", "nan")),
        "GPU MB": _gpu_mb(node.pid),
    }
    for name, process in (("node", node), ("camera", camera)):
        folder = Path(f"/proc/{process.pid}")
        sample[f"{name} MB"] = memory_mb(process.pid)
        sample[f"{name} threads"] = len(os.listdir(folder / "task"))
        sample[f"{name} descriptors"] = len(os.listdir(folder / "fd"))
    return {**sample, **listener.counts()}


def _gpu_mb(process_id: int) -> float:
    """Memory of the GPU that a process has; NaN without a GPU."""
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return float("nan")
    used = [line.split(",") for line in answer.splitlines() if "," in line]
    found = [
        float(mb) for pid, mb in used if pid.strip() == str(process_id) and mb.strip()[0] != "["
    ]
    return sum(found) if found else float("nan")


def _write(options: argparse.Namespace, samples: list[Sample], faults: list[str]) -> None:
    if not options.json:
        return
    result = {
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "settings": {key: str(value) for key, value in vars(options).items()},
        "faults": faults,
        "samples": samples,
    }
    Path(options.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _plot(samples: list[Sample], warm_up: float, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = (
        ("memory, MB", ("node MB", "camera MB", "GPU MB")),
        ("threads", ("node threads", "camera threads")),
        ("file descriptors", ("node descriptors", "camera descriptors")),
        ("age p95, ms", ("age p95 ms",)),
        ("images so far", ("published", "replaced", "lost", "refused")),
    )
    minutes = [sample["seconds"] / 60 for sample in samples]
    figure, axes = pyplot.subplots(len(rows), 1, sharex=True, figsize=(9, 11))
    for axis, (label, names) in zip(axes, rows, strict=True):
        for name in names:
            values = [sample[name] for sample in samples]
            if not np.isnan(values).all():
                axis.plot(minutes, values, label=name)
        axis.set_ylabel(label)
        axis.axvspan(0, warm_up / 60, color="0.9")
        axis.legend(loc="upper left", fontsize="small")
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("minutes (grey: warming up, not judged)")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _print(samples: list[Sample], warm_up: float, faults: list[str]) -> None:
    judged = [sample for sample in samples if sample["seconds"] >= warm_up]
    if len(judged) < 2:
        print("soak: too short to say anything")
        return
    print(f"soak, {samples[-1]['seconds']:.0f} s, judged after the first {warm_up:.0f} s")
    for what in ("node MB", "camera MB", "GPU MB"):
        if not np.isnan(judged[-1][what]):
            slope = slope_per_hour(judged, what)
            print(f"  {what:22} {judged[-1][what]:8.1f}   {slope:+.2f} an hour")
    for what in (
        *("node threads", "node descriptors", "camera threads", "camera descriptors"),
        *("age p95 ms", "poses per second"),
    ):
        values = [sample[what] for sample in judged]
        print(f"  {what:22} {min(values):8.1f} to {max(values):.1f}")
    for what in COUNTERS:
        print(f"  {what:22} {judged[-1][what]:8.0f}")
    print("\n".join(f"  FAULT: {fault}" for fault in faults) or "  nothing grows")


if __name__ == "__main__":
    sys.exit(main())
