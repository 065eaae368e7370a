"""Runs an engine over annotated images and compares what it finds with the annotations."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pose_node.errors import SourceError
from pose_node.evaluation.annotations import AnnotatedImages
from pose_node.evaluation.statistics import (
    MAX_COUNTED,
    Json,
    KeypointStatistics,
    coco_results,
    evaluate_keypoints,
    keypoint_statistics,
    require_pycocotools,
)
from pose_node.poses import Poses, Skeleton

CROWD_LEVELS = {"APeasy": (0.0, 0.1), "APmedium": (0.1, 0.8), "APhard": (0.8, 1.0)}
"""CrowdPose's levels: AP of the images whose ``crowdIndex`` lies within."""


class Engine(Protocol):
    """What is needed of an engine; `pose_node.PoseEngine` is one."""

    stage_times: dict[str, float]
    skeleton: Skeleton

    @property
    def num_keypoints(self) -> int:
        """Keypoints of each person, K."""

    def __call__(self, images: Sequence[np.ndarray]) -> list[Poses]:
        """People in BGR images."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        statistics: the ten of `STATISTICS`, 0 to 1; -1 where there is nothing to measure. With
            CrowdPose's annotations also AP by crowding, `CROWD_LEVELS`.
        images: how many images were looked at.
        annotated_people: how many people the annotations have in them, crowds not counted.
        found_people: how many people the model found, at any score above its threshold.
        seconds: how long it took, reading the images included.
        stage_milliseconds: mean time of each stage of the engine for one image.
        image_oks: for each image by file name, the mean OKS of its annotated people, those that
            were not found counting 0; None for images without annotated people.
        details: curves and the OKS of every person; not part of the JSON.
        people: the best people found in each image by file name, at most 20; not part of the JSON.
    """

    statistics: dict[str, float]
    images: int
    annotated_people: int
    found_people: int
    seconds: float
    stage_milliseconds: dict[str, float]
    image_oks: dict[str, float | None]
    details: KeypointStatistics = field(repr=False)
    people: dict[str, Poses] = field(repr=False)

    @property
    def images_per_second(self) -> float:
        """Of the engine alone, reading the images not included; 0 if it was not timed."""
        milliseconds = sum(self.stage_milliseconds.values())
        return 1e3 / milliseconds if milliseconds else 0.0

    def to_json(self) -> Json:
        """This result as what ``json.dumps`` takes."""
        return {
            "statistics": self.statistics,
            "images": self.images,
            "annotated_people": self.annotated_people,
            "found_people": self.found_people,
            "seconds": self.seconds,
            "stage_milliseconds": self.stage_milliseconds,
            "images_per_second": self.images_per_second,
            "image_oks": self.image_oks,
        }


def evaluate_engine(
    engine: Engine,
    data: AnnotatedImages,
    *,
    batch_size: int = 8,
    progress: Callable[[int, int | None], None] | None = None,
) -> Evaluation:
    """Run an engine over annotated images and compare what it finds with the annotations.

    COCO's numbers are published with a score threshold near zero (0.001): a higher one gives lower
    statistics.

    Args:
        engine: the engine, with its thresholds set. Its skeleton gives the OKS falloffs.
        data: the images.
        batch_size: images handed to the engine at once.
        progress: called with the images that are done and their number.

    Raises:
        SourceError: the model has another number of keypoints, an image cannot be read, or
            pycocotools is not installed.
    """
    require_pycocotools()
    if engine.num_keypoints != data.num_keypoints:
        raise SourceError(
            f"the model finds {engine.num_keypoints} keypoints, the annotations have "
            f"{data.num_keypoints}: they cannot be compared"
        )
    started = time.perf_counter()
    people: list[Poses] = []
    found_people = 0
    stage_seconds: Counter[str] = Counter()
    for first in range(0, len(data), batch_size):
        indices = range(first, min(first + batch_size, len(data)))
        found = engine([data.read(index) for index in indices])
        stage_seconds.update(engine.stage_times)
        found_people += sum(map(len, found))
        people += map(_best, found)
        if progress is not None:
            progress(indices.stop, len(data))
    seconds = time.perf_counter() - started
    results = [
        row
        for image, poses in zip(data.images, people, strict=True)
        for row in coco_results(poses, image["id"], category_id=data.category_id)
    ]
    details = keypoint_statistics(
        data.annotations,
        results,
        image_ids=[image["id"] for image in data.images],
        sigmas=engine.skeleton.sigmas,
    )
    return Evaluation(
        statistics={**details.values, **_by_crowding(data, results, engine.skeleton.sigmas)},
        images=len(data),
        annotated_people=data.count_people(),
        found_people=found_people,
        seconds=seconds,
        stage_milliseconds={
            stage: 1e3 * total / len(data) for stage, total in stage_seconds.items()
        },
        image_oks={
            image["file_name"]: float(oks.mean()) if len(oks) else None
            for image in data.images
            for oks in [details.person_oks[image["id"]]]
        },
        details=details,
        people={
            image["file_name"]: poses for image, poses in zip(data.images, people, strict=True)
        },
    )


def _best(poses: Poses) -> Poses:
    """Those that count: keeping all at a threshold near zero would fill the memory."""
    kept = slice(MAX_COUNTED)
    return Poses(
        poses.boxes_xyxy[kept].copy(),
        poses.scores[kept].copy(),
        poses.keypoints[kept].copy(),
        poses.ids[kept].copy(),
    )


def _by_crowding(
    data: AnnotatedImages, results: Sequence[Json], sigmas: Sequence[float]
) -> dict[str, float]:
    """AP by CrowdPose's levels, if all images say how crowded they are."""
    if not all("crowdIndex" in image for image in data.images):
        return {}
    found = {}
    for name, (low, high) in CROWD_LEVELS.items():
        image_ids = [
            image["id"]
            for image in data.images
            if low <= image["crowdIndex"] < high or image["crowdIndex"] == high == 1
        ]
        statistics = evaluate_keypoints(
            data.annotations, results, image_ids=image_ids, sigmas=sigmas
        )
        found[name] = statistics["AP"]
    return found
