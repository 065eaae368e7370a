"""Labels of YOLO-pose datasets, as people in COCO's terms.

A text file for each image, a line for each person: class, then centre x, centre y, width and height
of the box, then x and y or x, y and visibility of each keypoint, all lengths as parts of the
image's width and height.
"""

from __future__ import annotations

import math
from pathlib import Path

from pose_node.errors import ImageError, SourceError
from pose_node.evaluation.statistics import Json
from pose_node.image_headers import read_header
from pose_node.imaging import decode_file
from pose_node.sources import IMAGE_SUFFIXES


def read_yolo_labels(
    folder: Path, labels: Path, *, num_keypoints: int
) -> tuple[list[Json], list[Json]]:
    """Read the labels of a folder of images.

    Args:
        folder: where the images lie.
        labels: where the text files lie, named as the images.
        num_keypoints: K.

    Returns:
        Entries of images and of annotations as in a COCO file; the images by name, ids from 1.

    Raises:
        SourceError: there are no images or labels, or one of them is not as it should be.
    """
    for place in (folder, labels):
        if not place.is_dir():
            raise SourceError(f"{place} is no folder, expected one of images and one of labels")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise SourceError(f"folder {folder} holds no images")
    if not any((labels / f"{path.stem}.txt").is_file() for path in paths):
        raise SourceError(
            f"folder {labels} has a label file for none of the {len(paths)} images of {folder}; "
            f"expected for example {paths[0].stem}.txt"
        )
    images: list[Json] = []
    people: list[Json] = []
    for image_id, path in enumerate(paths, start=1):
        width, height = _upright_size(path)
        images.append({"id": image_id, "file_name": path.name, "width": width, "height": height})
        for box, keypoints in _read_file(labels / f"{path.stem}.txt", num_keypoints):
            people.append(_person(len(people) + 1, image_id, box, keypoints, width, height))
    return images, people


def _person(
    number: int,
    image_id: int,
    box: list[float],
    keypoints: list[tuple[float, float, int]],
    width: int,
    height: int,
) -> Json:
    x, y, box_width, box_height = box
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "bbox": [
            *((x - box_width / 2) * width, (y - box_height / 2) * height),
            *(box_width * width, box_height * height),
        ],
        "keypoints": [value for x, y, seen in keypoints for value in (x * width, y * height, seen)],
    }


def _read_file(
    path: Path, num_keypoints: int
) -> list[tuple[list[float], list[tuple[float, float, int]]]]:
    """Box and keypoints of each line, still relative to the image."""
    if not path.is_file():
        return []
    try:
        lines = path.read_text().splitlines()
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {path}: {error}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            rows.append(_read_line(f"{path}, line {number}", line.split(), num_keypoints))
    return rows


def _read_line(
    place: str, words: list[str], num_keypoints: int
) -> tuple[list[float], list[tuple[float, float, int]]]:
    pairs, triples = 5 + 2 * num_keypoints, 5 + 3 * num_keypoints
    if len(words) not in (pairs, triples):
        raise SourceError(
            f"{place}: expected {triples} values (class, box, {num_keypoints} times x, y and "
            f"visibility) or {pairs} (without visibility), got {len(words)}"
        )
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise SourceError(f"{place}: expected numbers: {error}") from error
    if not all(map(math.isfinite, values)):
        raise SourceError(f"{place}: expected finite numbers, got {words}")
    rest = values[5:]
    if len(words) == pairs:  # a keypoint that is not there stands as 0 0
        points = list(zip(rest[::2], rest[1::2], strict=True))
        return values[1:5], [(x, y, 2 if x or y else 0) for x, y in points]
    seen = rest[2::3]
    if not set(seen) <= {0, 1, 2}:
        raise SourceError(f"{place}: expected visibilities 0, 1 or 2, got {sorted(set(seen))}")
    return values[1:5], list(zip(rest[::3], rest[1::3], map(int, seen), strict=True))


def _upright_size(path: Path) -> tuple[int, int]:
    """Width and height as a viewer shows the image: labels refer to that."""
    try:
        content = path.read_bytes()
        header = read_header(memoryview(content))
        if b"Exif" in content[: header.end]:  # rare enough to decode them for their orientation
            height, width = decode_file(content).shape[:2]
            return width, height
    except (ImageError, OSError) as error:
        raise SourceError(f"cannot read {path}: {error}") from error
    return header.width, header.height
