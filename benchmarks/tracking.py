"""Compares the tracker with ByteTrack and BoT-SORT on the same detections, in the same run.

    python benchmarks/tracking.py [RESULTS.jsonl ...]

Scenes with known identities come from tests/tracking/scenes.py and are judged by motmetrics.
Results of `pose-node predict VIDEO --save jsonl --score-threshold 0.1` have no known identities: of
those the ids that lasted for half a second are counted, for whoever watches the video, in all
images and in every third. Last comes the processor time that 20 people take.

The peers are those of the package `trackers` (Apache-2.0), with thresholds like ours; without it
only our tracker is measured: `pip install trackers supervision motmetrics`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import motmetrics
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pose_node.camera_model import CameraModel
from pose_node.depth import lift
from pose_node.poses import COCO17, Poses
from pose_node.smoothing import PoseSmoother
from pose_node.tracking import PoseTracker, TrackerSettings
from tests.tracking.scenes import Observed, Person, crossing, crowd, jump, observe

Update = Callable[[Poses, int], np.ndarray]
"""People and stamp to the ids of the people, -1 for none."""

LASTING_SECONDS = 0.5


def main() -> int:
    """Measure and print a table for the scenes, and one for the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("results", nargs="*", type=Path, metavar="RESULTS.jsonl")
    parser.add_argument("--seeds", type=int, default=5, help="scenes of each kind (5)")
    options = parser.parse_args()
    print("| scene | rate | tracker | IDF1 | switches | fragments | ms an image |")
    print("|---|---|---|---|---|---|---|")
    for name, people, seconds in SCENES:
        for rate in (2.0, 10.0, 30.0):
            scenes = [
                observe(people(seed), seconds, rate, missed=0.1, seed=seed)
                for seed in range(options.seeds)
            ]
            for tracker, make in _trackers(rate).items():
                _print_scenes(name, rate, tracker, [_judge(scene, make()) for scene in scenes])
    for path in options.results:
        for every in (1, 3):
            _print_results(path, every)
    _print_times()
    return 0


def _crowd(seed: int) -> list[Person]:
    return crowd(30, seed)


def _jumpers(_seed: int) -> list[Person]:
    """Four children who jump on the spot, in and out of step."""
    return [Person(jump(i - 1.5, 4 + 0.5 * i, 0.5 + 0.05 * i), height=0.7) for i in range(4)]


SCENES: tuple[tuple[str, Callable[[int], list[Person]], float], ...] = (
    ("crossing", crossing, 45.0),
    ("crowd of 30", _crowd, 20.0),
    ("jumping", _jumpers, 20.0),
)


def _trackers(rate: float) -> dict[str, Callable[[], Update]]:
    found: dict[str, Callable[[], Update]] = {"pose_node": _ours}
    try:
        import trackers
    except ImportError:
        return found
    lost = int(TrackerSettings.lost_seconds * 30)  # in frames of 30 Hz, whatever the rate
    scores = {"track_activation_threshold": 0.3, "high_conf_det_threshold": 0.3}
    common = {"frame_rate": rate, "lost_track_buffer": lost, **scores}
    found["ByteTrack"] = lambda: _peer(trackers.ByteTrackTracker(**common))
    found["BoT-SORT"] = lambda: _peer(trackers.BoTSORTTracker(**common, enable_cmc=False))
    return found


def _ours() -> Update:
    tracker = PoseTracker(COCO17)
    return lambda poses, stamp_ns: tracker.update(poses, stamp_ns).ids


def _peer(tracker: object) -> Update:
    import supervision

    def update(poses: Poses, _stamp_ns: int) -> np.ndarray:
        given = supervision.Detections(
            xyxy=poses.boxes_xyxy.copy(),
            confidence=poses.scores.copy(),
            class_id=np.zeros(len(poses), int),
            data={"row": np.arange(len(poses))},
        )
        found = tracker.update(given)  # type: ignore[attr-defined]
        ids = np.full(len(poses), -1, np.int64)
        if len(found):
            ids[found.data["row"]] = found.tracker_id
        return ids

    return update


def _judge(scene: list[Observed], update: Update) -> tuple[float, ...]:
    """IDF1, switches, fragmentations, milliseconds an image."""
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    seconds = 0.0
    for image in scene:
        started = time.perf_counter()
        ids = update(image.poses, image.stamp_ns)
        seconds += time.perf_counter() - started
        rows, columns = np.flatnonzero(image.people >= 0), np.flatnonzero(ids >= 0)
        distances = np.where(rows[:, None] == columns[None], 0.0, np.nan)
        accumulator.update(image.people[rows], ids[columns], distances)
    names = ["idf1", "num_switches", "num_fragmentations"]
    found = motmetrics.metrics.create().compute(accumulator, metrics=names).iloc[0]
    return (*(float(found[name]) for name in names), 1e3 * seconds / len(scene))


def _print_scenes(name: str, rate: float, tracker: str, rows: list[tuple[float, ...]]) -> None:
    idf1, switches, fragments, milliseconds = (statistics.mean(c) for c in zip(*rows, strict=True))
    print(
        f"| {name} | {rate:g} | {tracker} | {idf1:.3f} | {switches:.1f} | {fragments:.1f} | "
        f"{milliseconds:.2f} |"
    )


def _print_results(path: Path, every: int) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    frames = [line for line in lines if "people" in line][::every]
    stamps = [int(frame["stamp_ns"]) for frame in frames]
    rate = (len(stamps) - 1) / ((stamps[-1] - stamps[0]) / 1e9)
    for tracker, make in _trackers(rate).items():
        update, seen = make(), Counter[int]()
        for frame, stamp in zip(frames, stamps, strict=True):
            ids = update(_poses(frame["people"]), stamp)
            seen.update(int(track) for track in ids if track >= 0)
        lasting = sum(count / rate >= LASTING_SECONDS for count in seen.values())
        print(f"{path.stem}, {rate:.1f} Hz, {tracker}: {len(seen)} ids, {lasting} of them lasting")


def _print_times() -> None:
    """Processor time of one core for 20 people an image: tracking, smoothing, 3D."""
    scene = observe(crowd(20, 1), 10, 30, missed=0, seed=1)
    tracker, smoother = PoseTracker(COCO17), PoseSmoother()
    camera = CameraModel.from_calibration(
        width=1920,
        height=1080,
        k=[1200, 0, 960, 0, 1200, 540, 0, 0, 1],
        d=[0.1, -0.2, 0, 0, 0.05],
        distortion_model="plumb_bob",
    )
    depth = np.random.default_rng(0).uniform(8, 8.05, (1080, 1920)).astype(np.float32)
    times = []
    for image in scene:
        ticks = [time.thread_time()]
        poses = tracker.update(image.poses, image.stamp_ns)
        ticks.append(time.thread_time())
        poses = smoother.update(poses, image.stamp_ns)
        ticks.append(time.thread_time())
        lift(poses, depth, camera)
        ticks.append(time.thread_time())
        times.append(np.diff(ticks))
    middle = 1e3 * np.median(times, axis=0)
    people = statistics.mean(len(image.poses) for image in scene)
    print(f"{people:.1f} people: tracking {middle[0]:.2f} ms, smoothing {middle[1]:.2f}", end="")
    print(f", 3D {middle[2]:.2f}, together {1e3 * np.median(np.sum(times, axis=1)):.2f}")


def _poses(people: list[dict[str, Any]]) -> Poses:
    if not people:
        return Poses.empty(17)
    return Poses.from_arrays(
        [person["box"] for person in people],
        [person["score"] for person in people],
        [person["keypoints"] for person in people],
    )


if __name__ == "__main__":
    sys.exit(main())
