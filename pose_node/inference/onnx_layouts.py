"""The layouts in which exported YOLO-Pose models give their results, and how to tell them apart.

A file is tried on one image. The shapes of what comes, the size of the image and the file's own
metadata decide; where they allow several layouts, the user must say which. K is the number of
keypoints, D is 3 (x, y, score) or 2 (x, y), A the number of predictions, H and W the size of the
image, all coordinates are pixels of the input.

==================  ==========================  ====================================================
layout              outputs                     contents
==================  ==========================  ====================================================
ultralytics         (B, 4 + classes + K*D, A)   centre x, y, width, height; class scores; keypoints
ultralytics-final   (B, N, 6 + K*D)             x1 y1 x2 y2, score, class, keypoints; no duplicates,
                                                rows of zeros at the end
yolov5-maps         for each level              logits, see `pose_node.models.yolov5`; the anchors
                    (B, 3, h, w, 5+classes+3K)  are not in the file
yolov5-split-maps   for each level (B, 3 * (5   the same before boxes and keypoints are joined
                    + classes), h, w) and
                    (B, 3 * 3K, h, w)
yolov5-rows         (B, A, 5 + classes + 3K)    centre x, y, width, height, objectness, class
                    and the maps                scores, keypoints
yolov5-detections   (N, 6 + 3K)                 x1 y1 x2 y2, score, class, keypoints; no duplicates
yolox-rows          (B, A, 5 + classes + 3K)    undecoded, see `pose_node.models.yolox`
yolox-detections    (N, 6 + 3K)                 like yolov5-detections, keypoint scores are logits
==================  ==========================  ====================================================

YOLOv7 shares the layouts of YOLOv5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pose_node.inference.onnx_metadata import FileFacts

LAYOUT_NAMES = (
    *("ultralytics", "ultralytics-final"),
    *("yolov5-maps", "yolov5-split-maps", "yolov5-rows", "yolov5-detections"),
    *("yolox-rows", "yolox-detections"),
)

Shape = tuple[int, ...]

_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))
"""Of published networks."""

ANCHORS_OF_A_CELL = 3
"""Of every published YOLOv5 and YOLOv7."""

_MOST_FINAL_ROWS = 300
"""As many rows do Ultralytics exports give after suppression, unless told otherwise."""


class Counts(NamedTuple):
    """How the columns of a row divide."""

    num_classes: int
    num_keypoints: int
    keypoint_dimensions: int


def detect_layout(
    shapes: Mapping[str, Shape], image_size: tuple[int, int], facts: FileFacts
) -> str:
    """Tell in which layout a model gives its results.

    Args:
        shapes: the shape of each output for one image, by name, in the file's order.
        image_size: height and width of that image.
        facts: the file's metadata.

    Returns:
        One of `LAYOUT_NAMES`.

    Raises:
        ValueError: none fits, or several do; the text names those to choose from.
    """
    if facts.layout is not None:
        return check_layout_name(facts.layout)
    candidates = list(_candidates(list(shapes.values()), image_size, facts))
    if len(candidates) == 1:
        return candidates[0]
    height, width = image_size
    found = f"its outputs for an image of {width} x {height} have the shapes {dict(shapes)!s:.400}"
    if candidates:
        raise ValueError(
            f"{found}, which may be {' or '.join(candidates)}; say which (onnx_layout)"
        )
    raise ValueError(
        f"{found}, which is no layout of a pose model that can be told from its shapes and "
        f"metadata; expected one of {', '.join(LAYOUT_NAMES)}; if it is one, say which "
        "(onnx_layout), else export it again"
    )


def check_layout_name(name: str) -> str:
    """The name itself, where it is one of `LAYOUT_NAMES`; ValueError otherwise."""
    if name in LAYOUT_NAMES:
        return name
    raise ValueError(f"the layout must be one of {', '.join(LAYOUT_NAMES)}, got {name!r:.60}")


def _candidates(
    shapes: Sequence[Shape], image_size: tuple[int, int], facts: FileFacts
) -> Iterator[str]:
    ranks = [len(shape) for shape in shapes]
    if ranks and set(ranks) == {5}:
        yield "yolov5-maps"
    elif ranks and set(ranks) == {4} and len(ranks) % 2 == 0:
        yield "yolov5-split-maps"
    elif ranks == [2] and shapes[0][1] in range(9, 10_000, 3):
        yield "yolov5-detections"
        yield "yolox-detections"
    elif ranks == [3] and facts.keypoint_shape is not None:
        yield from _of_ultralytics(shapes[0], facts)
    elif ranks.count(3) == 1 and set(ranks) <= {3, 5}:
        yield from _by_count(shapes[ranks.index(3)], image_size)


def _of_ultralytics(shape: Shape, facts: FileFacts) -> Iterator[str]:
    """Told by the metadata that Ultralytics writes: number of keypoints and classes."""
    assert facts.keypoint_shape is not None
    keypoint_columns = facts.keypoint_shape[0] * facts.keypoint_shape[1]
    columns = shape[1] == 4 + max(len(facts.class_names), 1) + keypoint_columns
    final = shape[2] == 6 + keypoint_columns
    if columns and not (final and facts.final):
        yield "ultralytics"
    elif final:
        yield "ultralytics-final"


def _by_count(shape: Shape, image_size: tuple[int, int]) -> Iterator[str]:
    """Told by the number of predictions, which follows from the size of the image."""
    _, rows, columns = shape
    counts = {sum(h * w for h, w in level_sizes(image_size, strides)) for strides in _STRIDES}
    if columns in counts:
        yield "ultralytics"
    if columns >= 9 and rows in {ANCHORS_OF_A_CELL * count for count in counts}:
        yield "yolov5-rows"
    if columns >= 9 and rows in counts:
        yield "yolox-rows"
    if columns >= 8 and rows == _MOST_FINAL_ROWS:
        yield "ultralytics-final"


def level_sizes(image_size: tuple[int, int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """Height and width of the map of each level, in cells."""
    return [(image_size[0] // stride, image_size[1] // stride) for stride in strides]


def find_strides(predictions: int, image_size: tuple[int, int]) -> tuple[int, ...]:
    """The strides with which an image has so many cells in all.

    Raises:
        ValueError: no known set of strides gives that number.
    """
    for strides in _STRIDES:
        if sum(h * w for h, w in level_sizes(image_size, strides)) == predictions:
            return strides
    raise ValueError(
        f"it gives {predictions} predictions for an image of {image_size[1]} x {image_size[0]}, "
        f"which none of the strides {_STRIDES} gives"
    )


def divide_columns(
    columns: int, facts: FileFacts, num_keypoints: int | None, *, dimensions: Sequence[int] = (3, 2)
) -> Counts:
    """Find how many classes and keypoints share the columns behind box and objectness.

    Args:
        columns: classes + K * D.
        facts: the file's metadata.
        num_keypoints: K as the user says, None if not.
        dimensions: the possible D, the likelier first.

    Raises:
        ValueError: they do not go into so many columns, or nothing says how many there are.
    """
    keypoints, classes = num_keypoints, len(facts.class_names)
    if facts.keypoint_shape is not None:
        keypoints, dimensions = facts.keypoint_shape[0], facts.keypoint_shape[1:]
    if keypoints is None:  # then a person is all there is
        classes = classes or 1
        if columns > classes and (columns - classes) % 3 == 0:
            return Counts(classes, (columns - classes) // 3, 3)
        raise ValueError(
            f"its {columns} columns for classes and keypoints could be divided in several ways, "
            "and it does not say how many keypoints there are; give the number (num_keypoints)"
        )
    for size in dimensions:
        rest = columns - keypoints * size
        if rest >= 1 and classes in (0, rest):
            return Counts(rest, keypoints, size)
    named = f" and {classes} classes" if classes else ""
    raise ValueError(
        f"it has {columns} columns for classes and keypoints, which {keypoints} keypoints{named} "
        "do not fill"
    )


def divide_final_columns(columns: int, facts: FileFacts, num_keypoints: int | None) -> Counts:
    """The same for rows that carry one score and a class number: `columns` is K * D alone."""
    classes = max(len(facts.class_names), 1)
    if facts.keypoint_shape is not None:
        num_keypoints = facts.keypoint_shape[0]
    size, rest = divmod(columns, num_keypoints or max(columns // 3, 1))
    if rest or size not in (2, 3):
        wanted = f"{num_keypoints} keypoints" if num_keypoints else "keypoints of x, y and score"
        raise ValueError(f"its {columns} columns of keypoints do not hold {wanted}")
    return Counts(classes, columns // size, size)
