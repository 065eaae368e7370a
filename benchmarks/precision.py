"""How far people in 16 bits are from those in float32: ``python benchmarks/precision.py IMAGES``.

The distances of keypoints scored above 0.5, of people scored above 0.4, between an engine with
``half`` and one without, in pixels of the image; a person's counterpart is the nearest box.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pose_node.process_settings import tune_process

tune_process()  # before torch is imported

import numpy as np

from pose_node import PoseEngine, Poses
from pose_node.imaging import decode_file

MIN_SCORE, MIN_KEYPOINT_SCORE = 0.4, 0.5


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("images", type=Path, help="folder of JPEG files")
    parser.add_argument("--model", default="yolo11n-pose")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    exact, half = (
        PoseEngine.load(options.model, device=options.device, backend="auto", half=half)
        for half in (False, True)
    )
    moved: list[float] = []
    people = 0
    for path in sorted(options.images.glob("*.jpg")):
        image = decode_file(path.read_bytes())
        (theirs,), (ours,) = exact([image]), half([image])
        for person in np.flatnonzero(theirs.scores > MIN_SCORE):
            people += 1
            moved += distances(theirs, int(person), ours)
    if not moved:
        raise SystemExit(f"nobody was found in the .jpg files of {options.images}")
    p50, p95, p99 = np.percentile(moved, (50, 95, 99))
    print(
        f"{options.model} by {half.backend}, {half.device_description}: {people} people, "
        f"{len(moved)} keypoints; pixels apart: p50 {p50:.2f}, p95 {p95:.2f}, p99 {p99:.2f}, "
        f"most {max(moved):.2f}"
    )
    return 0


def distances(theirs: Poses, person: int, ours: Poses) -> list[float]:
    """How far each clear keypoint of a person is from that of the nearest one, in pixels."""
    if not len(ours):
        raise SystemExit("in 16 bits nobody was found where somebody is in float32")
    nearest = int(np.abs(ours.boxes_xyxy - theirs.boxes_xyxy[person]).max(1).argmin())
    clear = theirs.keypoints[person][:, 2] > MIN_KEYPOINT_SCORE
    apart = ours.keypoints[nearest][clear, :2] - theirs.keypoints[person][clear, :2]
    return np.linalg.norm(apart, axis=1).tolist()  # type: ignore[no-any-return]


if __name__ == "__main__":
    sys.exit(main())
