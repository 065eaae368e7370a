"""What `pose-node predict` costs beside the engine: rate, memory, and a Ray cluster of one machine.

    python benchmarks/predict.py --video VIDEO [--parts rate memory ray] [--json FILE]

Run it on a machine that does nothing else. VIDEO is one of 1280x720 in H.264. Three parts:

rate    In turns, in one process: the bare engine on frames that are decoded already, and a run
        (journal and JSON Lines) that reads the same frames from the video. Asked: at least 0.9 of
        the rate. Beside them the rate of reading alone, which says what is taken from the engine.
memory  The command on the video in a loop of --minutes: resident memory over time.
ray     The command on --frames frames, by itself and with `--ray --ray-workers N`, each engine with
        its share of the cores. Both are timed from when engines stand, and with their start. Asked:
        the same people, less than 15 % more time.

``memory`` and ``ray`` make longer videos of copies of VIDEO with PyAV (`pip install av`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pose_node.prediction.frames import RecordedFrame, Selection
from pose_node.prediction.journal import Journal
from pose_node.prediction.outputs import JsonLines
from pose_node.prediction.recordings import open_recording
from pose_node.prediction.run import predict
from pose_node.process_settings import tune_process

PARTS = ("rate", "memory", "ray")


def main() -> int:
    """Measure, print tables, write JSON."""
    options = _parse()
    tune_process()  # as the command does it, before torch is imported
    result: dict[str, Any] = {
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "load_before": os.getloadavg(),
    }
    measure: dict[str, Callable[[argparse.Namespace, Path], dict[str, Any]]] = {
        "rate": measure_rate,
        "memory": measure_memory,
        "ray": measure_ray,
    }
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts:
            result[part] = measure[part](options, Path(folder))
            print(f"\n{part}\n" + "\n".join(_rows(result[part])), flush=True)
    result["load_after"] = os.getloadavg()
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--video", required=True, help="of 1280x720 in H.264")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--model", default="yolo11n-pose")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--image-size", type=int, default=640, help="of the network's input")
    parser.add_argument("--rounds", type=int, default=6, help="of the rate, in turns")
    parser.add_argument("--round-frames", type=int, default=100, help="in each round (2.8 MB each)")
    parser.add_argument("--minutes", type=float, default=10, help="of the video for the memory")
    parser.add_argument("--frames", type=int, default=2000, help="with and without Ray")
    parser.add_argument("--ray-workers", type=int, default=2)
    parser.add_argument("--json", help="write the result there")
    return parser.parse_args()


# --- Rate ---------------------------------------------------------------------------------------


def measure_rate(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Images a second of the engine alone, of a run, and of reading alone."""
    from pose_node import PoseEngine  # brings torch

    engine = PoseEngine.load(options.model, device=options.device, image_size=options.image_size)
    selection = Selection(last=options.round_frames)
    batch_size = 1 if engine.device == "cpu" else 8
    images = [frame.image for frame in _read(options.video, selection)]
    engine(images[:batch_size])  # warms up

    def run_engine() -> None:
        for first in range(0, len(images), batch_size):
            engine(images[first : first + batch_size])

    def run_predict() -> None:
        journal = Journal(folder / "journal", {}, num_keypoints=engine.num_keypoints, resume=False)
        summary = predict(
            engine,
            [options.video],
            lambda name: open_recording(name, selection),
            [JsonLines(folder / "poses.jsonl")],
            journal=journal,
            batch_size=batch_size,
        )
        journal.close(keep=False)
        assert summary.frames == len(images)

    def run_reading() -> None:
        assert len(_read(options.video, selection, keep=False)) == len(images)

    programs = {"engine": run_engine, "predict": run_predict, "reading": run_reading}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    processor: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(options.rounds):
        for name, program in programs.items():
            started, before = time.perf_counter(), time.process_time()
            program()
            seconds[name].append(time.perf_counter() - started)
            processor[name].append(time.process_time() - before)
    rates = {name: len(images) / np.array(values) for name, values in seconds.items()}
    ratios = rates["predict"] / rates["engine"]
    return {
        "frames": len(images),
        "size": f"{images[0].shape[1]}x{images[0].shape[0]}",
        "device": engine.device_description,
        "images_per_second": {name: round(float(np.median(r)), 2) for name, r in rates.items()},
        # Of all cores together; it hardly depends on what else the machine does.
        "processor_ms_of_an_image": {
            name: round(1e3 * float(np.median(values)) / len(images), 2)
            for name, values in processor.items()
        },
        "rounds": {name: [round(float(rate), 2) for rate in r] for name, r in rates.items()},
        "predict_to_engine": round(float(np.median(ratios)), 3),
        "predict_to_engine_rounds": [round(float(ratio), 3) for ratio in ratios],
    }


def _read(video: str, selection: Selection, *, keep: bool = True) -> list[Any]:
    """The frames of a video; without `keep` only their indices."""
    recording = open_recording(video, selection)
    try:
        return [
            frame if keep else frame.index
            for frame in recording
            if isinstance(frame, RecordedFrame)
        ]
    finally:
        recording.close()


# --- Memory -------------------------------------------------------------------------------------


def measure_memory(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Resident memory of the command, once a second."""
    video = folder / "long.mkv"
    frames = loop_video(Path(options.video), video, seconds=60 * options.minutes)
    samples: list[tuple[float, float]] = []
    started = time.monotonic()
    process = subprocess.Popen(_command(options, video, folder / "long"), stdout=subprocess.DEVNULL)
    while process.poll() is None:
        time.sleep(1)
        if (megabytes := resident_megabytes(process.pid)) is not None:
            samples.append((time.monotonic() - started, megabytes))
    if process.returncode:
        raise SystemExit(f"predict ended with {process.returncode}")
    seconds, megabytes_at = np.array(samples).T
    settled = seconds > 0.2 * seconds[-1]  # the start is loading
    slope = float(np.polyfit(seconds[settled] / 60, megabytes_at[settled], 1)[0])
    tenths = np.linspace(0.1, 1, 10) * seconds[-1]
    return {
        "frames": frames,
        "seconds": round(float(seconds[-1]), 1),
        "megabytes_max": round(float(megabytes_at.max()), 1),
        "megabytes_at_each_tenth": [
            round(float(value), 1) for value in np.interp(tenths, seconds, megabytes_at)
        ],
        "megabytes_more_each_minute": round(slope, 3),
    }


def resident_megabytes(process_id: int) -> float | None:
    """Of a process, without its children; None when it is gone."""
    try:
        status = Path(f"/proc/{process_id}/status").read_text()
    except OSError:
        return None
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(found[0]) / 1024 if found else None


# --- Ray ----------------------------------------------------------------------------------------


def measure_ray(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The same frames by one engine with all cores, and by several with a share each."""
    video = folder / "some.mkv"
    loop_video(Path(options.video), video, frames=options.frames)
    cores = max(1, (os.cpu_count() or 1) // options.ray_workers)
    ray = ["--ray", "--ray-workers", str(options.ray_workers), "--ray-cpus", str(cores)]
    runs: dict[str, Any] = {}
    for name, arguments in (("local", []), ("ray", ray)):
        output = folder / name
        started = time.monotonic()
        subprocess.run(
            [*_command(options, video, output), *arguments], check=True, stdout=subprocess.DEVNULL
        )
        summary = json.loads((output / "run.json").read_bytes())
        runs[name] = {
            "frames": summary["frames"],
            "seconds": summary["seconds"],
            "seconds_with_start": round(time.monotonic() - started, 1),
        }
    local, remote = runs["local"], runs["ray"]
    return {
        **{f"{name}_{key}": value for name, run in runs.items() for key, value in run.items()},
        "more_time": round(remote["seconds"] / local["seconds"] - 1, 3),
        "more_time_with_start": round(
            remote["seconds_with_start"] / local["seconds_with_start"] - 1, 3
        ),
        **compare(folder / "local/poses.jsonl", folder / "ray/poses.jsonl"),
    }


def compare(ours: Path, theirs: Path) -> dict[str, Any]:
    """Whether two files have the same frames and people, and how far apart these are at most."""
    apart, same_people, lines = 0.0, True, 0
    with ours.open() as first, theirs.open() as second:
        for one, other in zip(map(json.loads, first), map(json.loads, second), strict=True):
            lines += 1
            people, same = one.pop("people"), other.pop("people")
            assert one == other, f"other frames: {one} and {other}"
            same_people = same_people and len(people) == len(same)
            for a, b in zip(people, same, strict=False):
                values = np.array([a["box"], b["box"]]), np.array([a["keypoints"], b["keypoints"]])
                apart = max(apart, *(float(np.abs(each[0] - each[1]).max()) for each in values))
    return {"compared_frames": lines, "same_people": same_people, "pixels_apart": round(apart, 4)}


# --- Both ---------------------------------------------------------------------------------------


def _command(options: argparse.Namespace, video: Path, output: Path) -> list[str]:
    engine = ["--model", options.model, "--device", options.device]
    size = ["--image-size", str(options.image_size)]
    program = [sys.executable, "-m", "pose_node", "predict", str(video), "--output", str(output)]
    return [*program, *engine, *size]


def loop_video(
    source: Path, path: Path, *, frames: int | None = None, seconds: float | None = None
) -> int:
    """Copy a video again and again, without decoding it, until it is so long; its frames."""
    import av

    done, offset = 0, 0
    with av.open(str(path), "w") as output:
        written: Any = None
        while True:
            with av.open(str(source)) as container:
                stream = container.streams.video[0]
                written = written or output.add_stream_from_template(stream)
                rate = float(stream.average_rate or 30)
                wanted = frames if frames is not None else round((seconds or 0) * rate)
                step = round(1 / (rate * float(stream.time_base or 1)))
                last = offset
                for packet in container.demux(stream):
                    if packet.pts is None or packet.dts is None:  # the empty one at the end
                        continue
                    if done == wanted:
                        return done
                    last = max(last, offset + packet.pts)
                    packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                    packet.stream = written
                    output.mux(packet)
                    done += 1
                offset = last + step


def _rows(values: dict[str, Any]) -> list[str]:
    width = max(map(len, values))
    return [f"  {name.replace('_', ' '):{width}}  {_text(value)}" for name, value in values.items()]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    sys.exit(main())
