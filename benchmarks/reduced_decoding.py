"""How much the people found change when JPEG images are decoded smaller.

    python benchmarks/reduced_decoding.py FOLDER

FOLDER holds `videos/` and `coco/` (`val2017/` and `annotations.json`). Every 100th frame of the
videos is scaled to 720p, 1080p and 4K (longer side), encoded with quality 90, and decoded in full
and reduced: distances between the keypoints of the same people in pixels, beside those that scaling
the full image by areas instead of linearly makes. Then average precision with both on the annotated
images, with networks small enough to reduce them.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from pose_node import Frame, PoseEngine, Poses, imaging
from pose_node.evaluation import AnnotatedImages, coco_results, evaluate_keypoints
from pose_node.process_settings import tune_process

WIDTHS = (1280, 1920, 3840)
EVERY = 100
CERTAIN = 0.5
IMAGE_SIZES = (320, 224, 160)


def main() -> int:
    """Measure and print."""
    tune_process()
    folder = Path(sys.argv[1])
    print(
        f"{'longer side':14}{'reduced':>9}{'points':>11}{'p50 px':>9}{'p95 px':>9}{'areas p50':>11}"
    )
    _compare_videos(PoseEngine.load("yolo11n-pose", device="cpu"), folder / "videos")
    print(f"{'network':14}{'reduced':>9}{'AP full':>11}{'reduced':>9}")
    data = AnnotatedImages.open(folder / "coco/val2017", folder / "coco/annotations.json")
    for size in IMAGE_SIZES:
        _compare_precision(data, size)
    return 0


def _compare_videos(engine: PoseEngine, folder: Path) -> None:
    distances: dict[tuple[int, int], list[float]] = defaultdict(list)
    by_area: dict[tuple[int, int], list[float]] = defaultdict(list)
    for picture in _pictures(folder):
        for width in WIDTHS:
            scale = width / max(picture.shape[:2])
            method = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
            scaled = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=method)
            content = imaging.encode_jpeg(scaled)
            full = _find(engine, content, 1)
            small = engine.image_size / width
            whole = imaging.decode_file(content)
            areas = cv2.resize(whole, None, fx=small, fy=small, interpolation=cv2.INTER_AREA)
            largest = engine.largest_reduction(scaled.shape[1], scaled.shape[0])
            for reduction in {2, largest}:
                key = width, reduction
                distances[key] += _distances(full, _find(engine, content, reduction), 1.0)
                by_area[key] += _distances(full, engine([areas])[0], 1 / small)
    for (width, reduction), found in sorted(distances.items()):
        p50, p95 = np.percentile(found, (50, 95))
        other = np.percentile(by_area[width, reduction], 50)
        print(f"{width:<14}{reduction:>9}{len(found):>11}{p50:>9.2f}{p95:>9.2f}{other:>11.2f}")


def _pictures(folder: Path) -> Iterator[np.ndarray]:
    for path in sorted(folder.glob("*.mp4")):
        capture = cv2.VideoCapture(str(path))
        index = 0
        while capture.grab():
            index += 1
            if index % EVERY == 0:
                yield capture.retrieve()[1]


def _find(engine: PoseEngine, content: bytes, reduction: int) -> Poses:
    """In pixels of the original."""
    image = imaging.CompressedImage("jpeg", content)
    array, order = imaging.to_array(image, reduction=reduction)
    size = imaging.reducible_size(image)
    frame = Frame("", "", 0, array, order, reduction, size)
    return engine([array])[0].in_original(frame)


def _distances(expected: Poses, found: Poses, scale: float) -> list[float]:
    """Between the certain keypoints of the same people; `found` is multiplied by `scale`."""
    distances: list[float] = []
    for box, score, keypoints in zip(
        expected.boxes_xyxy, expected.scores, expected.keypoints, strict=True
    ):
        if score < CERTAIN or not len(found):
            continue
        apart = np.abs(found.boxes_xyxy * scale - box).sum(1)
        nearest = int(apart.argmin())
        if apart[nearest] < 0.4 * (box[2:] - box[:2]).sum():
            certain = keypoints[:, 2] > CERTAIN
            offsets = keypoints[certain, :2] - found.keypoints[nearest, certain, :2] * scale
            distances += np.hypot(*offsets.T).tolist()
    return distances


def _compare_precision(data: AnnotatedImages, image_size: int) -> None:
    engine = PoseEngine.load(
        "yolo11n-pose", device="cpu", image_size=image_size, score_threshold=0.001
    )
    results: dict[int, list[dict[str, object]]] = {1: [], 2: []}
    for entry, path in zip(data.images, data.paths, strict=True):
        for reduction, rows in results.items():
            rows += coco_results(_find(engine, path.read_bytes(), reduction), entry["id"])
    ids = [entry["id"] for entry in data.images]
    full, reduced = (
        evaluate_keypoints(data.annotations, rows, image_ids=ids)["AP"] for rows in results.values()
    )
    print(f"{image_size:<14}{2:>9}{full:>11.3f}{reduced:>9.3f}")


if __name__ == "__main__":
    sys.exit(main())
