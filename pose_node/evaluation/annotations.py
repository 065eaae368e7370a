"""Images on disk with annotated keypoints: COCO JSON (CrowdPose's too) and YOLO-pose text files."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pose_node.errors import SourceError
from pose_node.evaluation.statistics import Json
from pose_node.evaluation.yolo_labels import read_yolo_labels

AREA_OF_BOX = 0.53
"""The area of a person whose annotation has none, as a part of its box: as CrowdPose takes it."""

_NEEDED = {  # what pycocotools reads of each entry, besides what can be derived
    "images": {"id", "file_name"},
    "categories": {"id"},
    "annotations": {"id", "image_id", "category_id", "bbox", "keypoints"},
}


@dataclass(frozen=True)
class AnnotatedImages:
    """Images on disk with COCO keypoint annotations.

    Attributes:
        annotations: the content of the annotation file; area, iscrowd and num_keypoints of a person
            are filled in where they are missing, as CrowdPose leaves out the area.
        images: its entries of the images to look at, by id.
        paths: where each of them lies.
        category_id: the category that has keypoints.
        num_keypoints: how many.
        keypoint_names: their names; empty if the annotations do not say.
    """

    annotations: Json
    images: tuple[Json, ...]
    paths: tuple[Path, ...]
    category_id: int
    num_keypoints: int
    keypoint_names: tuple[str, ...] = ()

    @classmethod
    def open(
        cls, folder: Path, annotation_file: Path, *, limit: int | None = None
    ) -> AnnotatedImages:
        """Read COCO annotations and see that every image is there.

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
        category = categories[0]
        names = tuple(map(str, category["keypoints"]))
        return cls(
            annotations,
            *_chosen_images(annotations["images"], folder, annotation_file, limit),
            category["id"],
            len(names),
            names,
        )

    @classmethod
    def open_yolo(
        cls,
        folder: Path,
        labels: Path,
        *,
        num_keypoints: int,
        limit: int | None = None,
    ) -> AnnotatedImages:
        """Read YOLO-pose labels: a text file for each image, with a line for each person.

        All classes count as one. An image without a label file has nobody in it. There is no area
        in these files, so `AREA_OF_BOX` of each box is taken.

        Args:
            folder: where the images lie.
            labels: where the text files lie, named as the images.
            num_keypoints: K of the annotated keypoints; a line does not say whether it holds pairs
                or triples.
            limit: take only so many images, the first by name.

        Raises:
            SourceError: there are no images or labels, or a line is not as it should be.
        """
        images, people = read_yolo_labels(folder, labels, num_keypoints=num_keypoints)
        annotations: Json = {
            "images": images,
            "annotations": people,
            "categories": [{"id": 1, "name": "person"}],
        }
        _complete(annotations["annotations"])
        return cls(annotations, *_chosen_images(images, folder, labels, limit), 1, num_keypoints)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def count_people(self) -> int:
        """How many people with keypoints are annotated in these images, crowds not counted."""
        image_ids = {image["id"] for image in self.images}
        return sum(
            annotation["image_id"] in image_ids
            and annotation["num_keypoints"] > 0
            and not annotation["iscrowd"]
            for annotation in self.annotations["annotations"]
        )

    def keypoints_of(self, image_id: int) -> np.ndarray:
        """The annotated keypoints of an image, (N, K, 3): x, y and 0 none, 1 hidden, 2 seen."""
        rows = [
            person["keypoints"]
            for person in self.annotations["annotations"]
            if person["image_id"] == image_id and person["num_keypoints"] > 0
        ]
        return np.array(rows, np.float32).reshape(-1, self.num_keypoints, 3)

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


def _chosen_images(
    entries: Sequence[Json], folder: Path, source: Path, limit: int | None
) -> tuple[tuple[Json, ...], tuple[Path, ...]]:
    """The entries to look at, and where their images are."""
    images = sorted(entries, key=lambda image: image["id"])[:limit]
    if not images:
        raise SourceError(f"{source} names no images")
    paths = tuple(folder / image["file_name"] for image in images)
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        listing = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise SourceError(
            f"{len(missing)} of {len(paths)} annotated images are not in {folder}: {listing}"
        )
    return tuple(images), paths


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
    try:
        _complete(annotations["annotations"])
    except (TypeError, ValueError) as error:
        raise SourceError(
            f"{path}: an entry of annotations has a bbox or keypoints that are no list of finite "
            f"numbers: {error}"
        ) from error
    return dict(annotations)


def _complete(people: list[Json]) -> None:
    """Fill in what some datasets leave out. Raises TypeError or ValueError for odd values."""
    for person in people:
        _, _, width, height = map(float, person["bbox"])
        if not math.isfinite(width * height):
            raise ValueError(f"bbox {person['bbox']}")
        person.setdefault("area", AREA_OF_BOX * width * height)
        person.setdefault("iscrowd", 0)
        person.setdefault("num_keypoints", sum(seen > 0 for seen in person["keypoints"][2::3]))
