"""How good a model is: the COCO keypoint statistics on a set of annotated images.

The measure is that of the COCO keypoint challenge (https://cocodataset.org/#keypoints-eval), as
pycocotools computes it: average precision and recall over object keypoint similarity, where of each
image at most the 20 best-scored people count.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from pose_node.errors import SourceError
from pose_node.poses import Poses, Skeleton

STATISTICS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
"""The ten statistics in COCO's order: average precision (AP) and recall (AR) over OKS 0.50 to 0.95,
at OKS 0.50 and 0.75, and for people of medium (32^2 to 96^2 pixels) and large area."""

Json = dict[str, Any]

_NEEDED = {  # what pycocotools reads of each entry
    "images": {"id", "file_name"},
    "categories": {"id"},
    "annotations": {"id", "image_id", "category_id", "bbox", "area", "iscrowd"}
    | {"keypoints", "num_keypoints"},
}


class Engine(Protocol):
    """What is needed of an engine; `pose_node.PoseEngine` is one."""

    stage_times: dict[str, float]

    @property
    def num_keypoints(self) -> int:
        """Keypoints of each person, K."""

    @property
    def skeleton(self) -> Skeleton:
        """Their names and OKS falloffs."""

    def __call__(self, images: Sequence[np.ndarray]) -> list[Poses]:
        """People in BGR images."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        statistics: the ten of `STATISTICS`, 0 to 1; -1 where there is nothing to measure.
        images: how many images were looked at.
        annotated_people: how many people the annotations have in them, crowds not counted.
        found_people: how many people the model found, at any score above its threshold.
        seconds: how long it took, reading the images included.
        stage_milliseconds: mean time of each stage of the engine for one image.
    """

    statistics: dict[str, float]
    images: int
    annotated_people: int
    found_people: int
    seconds: float
    stage_milliseconds: dict[str, float]

    def to_json(self) -> Json:
        """This result as what ``json.dumps`` takes."""
        return asdict(self)


def coco_results(poses: Poses, image_id: int, *, category_id: int = 1) -> list[Json]:
    """People as rows of a COCO results file, as loaders of such files expect them.

    Args:
        poses: the people of one image, in pixels of that image.
        image_id: its id in the annotations.
        category_id: id of the category of people there.

    Returns:
        For each person ``image_id``, ``category_id``, ``score`` and ``keypoints``: x, y and score
        of each, one after the other.
    """
    return [
        {
            "image_id": image_id,
            "category_id": category_id,
            "score": float(score),
            "keypoints": [float(value) for value in keypoints.ravel()],
        }
        for score, keypoints in zip(poses.scores, poses.keypoints, strict=True)
    ]


def evaluate_keypoints(
    annotations: Json,
    results: Sequence[Json],
    *,
    image_ids: Sequence[int] | None = None,
    sigmas: Sequence[float] | None = None,
) -> dict[str, float]:
    """The ten COCO keypoint statistics.

    Args:
        annotations: the content of a COCO keypoint annotation file.
        results: rows as `coco_results` makes them.
        image_ids: the images to count, by default all.
        sigmas: OKS falloff of each keypoint, by default those of COCO's 17.

    Returns:
        `STATISTICS` by name, 0 to 1; -1 where no annotated person is left to measure.

    Raises:
        SourceError: pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise SourceError(
            f"evaluation needs pycocotools ({error}); install it (pip install pycocotools)"
        ) from error
    with contextlib.redirect_stdout(io.StringIO()):  # it tells its story on stdout
        truth = COCO()
        truth.dataset = copy.deepcopy(annotations)  # it adds to what it gets
        truth.createIndex()
        if results:
            found = truth.loadRes(copy.deepcopy(list(results)))
        else:
            found = COCO()
            found.dataset = {**annotations, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, "keypoints")
        if image_ids is not None:
            evaluation.params.imgIds = sorted(image_ids)
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(STATISTICS, map(float, evaluation.stats), strict=True))


@dataclass(frozen=True)
class AnnotatedImages:
    """Images on disk with COCO keypoint annotations.

    Attributes:
        annotations: the content of the annotation file.
        images: its entries of the images to look at, by id.
        paths: where each of them lies.
        category_id: the category that has keypoints.
        num_keypoints: how many.
    """

    annotations: Json
    images: tuple[Json, ...]
    paths: tuple[Path, ...]
    category_id: int
    num_keypoints: int

    @classmethod
    def open(
        cls, folder: Path, annotation_file: Path, *, limit: int | None = None
    ) -> AnnotatedImages:
        """Read the annotations and see that every image is there.

        Args:
            folder: where the images lie.
            annotation_file: COCO keypoint annotations, JSON.
            limit: take only so many images, those with the smallest ids.

        Raises:
            SourceError: the file cannot be read, has no keypoints, or images are missing.
        """
        annotations = _read_annotations(annotation_file)
        categories = [c for c in annotations["categories"] if c.get("keypoints")]
        if len(categories) != 1:
            raise SourceError(
                f"{annotation_file} has {len(categories)} categories with keypoints, expected one: "
                "take a keypoint annotation file (person_keypoints_*.json)"
            )
        images = sorted(annotations["images"], key=lambda image: image["id"])[:limit]
        if not images:
            raise SourceError(f"{annotation_file} names no images")
        paths = tuple(folder / image["file_name"] for image in images)
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            listing = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise SourceError(
                f"{len(missing)} of {len(paths)} annotated images are not in {folder}: {listing}"
            )
        category = categories[0]
        return cls(annotations, tuple(images), paths, category["id"], len(category["keypoints"]))

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def read(self, index: int) -> np.ndarray:
        """One image, (H, W, 3) BGR.

        Raises:
            SourceError: it cannot be decoded, or has another size than its annotation says.
        """
        path, entry = self.paths[index], self.images[index]
        try:
            image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        except (OSError, cv2.error) as error:
            raise SourceError(f"cannot read {path}: {error}") from error
        if image is None:
            raise SourceError(f"cannot read {path}: it is no image that OpenCV knows")
        expected = (entry.get("height", image.shape[0]), entry.get("width", image.shape[1]))
        if image.shape[:2] != expected:
            raise SourceError(
                f"{path} has {image.shape[1]} x {image.shape[0]} pixels, its annotation says "
                f"{expected[1]} x {expected[0]}: these are other images"
            )
        return image


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
        engine: the engine, with its thresholds set.
        data: the images.
        batch_size: images handed to the engine at once.
        progress: called with the images that are done and their number.

    Raises:
        SourceError: the model has another number of keypoints, or an image cannot be read.
    """
    if engine.num_keypoints != data.num_keypoints:
        raise SourceError(
            f"the model finds {engine.num_keypoints} keypoints, the annotations have "
            f"{data.num_keypoints}: they cannot be compared"
        )
    started = time.perf_counter()
    results: list[Json] = []
    stage_seconds: Counter[str] = Counter()
    for first in range(0, len(data), batch_size):
        indices = range(first, min(first + batch_size, len(data)))
        people = engine([data.read(index) for index in indices])
        stage_seconds.update(engine.stage_times)
        for index, poses in zip(indices, people, strict=True):
            image_id = data.images[index]["id"]
            results += coco_results(poses, image_id, category_id=data.category_id)
        if progress is not None:
            progress(indices.stop, len(data))
    seconds = time.perf_counter() - started
    image_ids = [image["id"] for image in data.images]
    return Evaluation(
        statistics=evaluate_keypoints(
            data.annotations, results, image_ids=image_ids, sigmas=engine.skeleton.sigmas
        ),
        images=len(data),
        annotated_people=_count_people(data, set(image_ids)),
        found_people=len(results),
        seconds=seconds,
        stage_milliseconds={
            stage: 1e3 * total / len(data) for stage, total in stage_seconds.items()
        },
    )


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file, complete or not at all.

    Raises:
        SourceError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_text(json.dumps(value, indent=2) + "\n")
        os.replace(temporary, path)
    except OSError as error:
        raise SourceError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _read_annotations(path: Path) -> Json:
    try:
        annotations = json.loads(path.read_bytes())
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise SourceError(f"cannot read {path}: it is no JSON: {error}") from error
    for key, needed in _NEEDED.items():
        entries = annotations.get(key) if isinstance(annotations, dict) else None
        if not isinstance(entries, list):
            raise SourceError(f"{path} is no COCO annotation file: it has no list of {key}")
        for entry in entries:
            missing = needed - entry.keys() if isinstance(entry, dict) else needed
            if missing:
                names = ", ".join(sorted(missing))
                raise SourceError(f"{path}: an entry of {key} has no {names}: {entry!r:.80}")
    return dict(annotations)


def _count_people(data: AnnotatedImages, image_ids: set[int]) -> int:
    return sum(
        annotation["image_id"] in image_ids
        and annotation["num_keypoints"] > 0
        and not annotation["iscrowd"]
        for annotation in data.annotations["annotations"]
    )
