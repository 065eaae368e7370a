"""Layouts of exported models, told apart by shapes and metadata."""

from __future__ import annotations

import pytest

from pose_node.inference.onnx_layouts import (
    LAYOUT_NAMES,
    Counts,
    Shape,
    check_layout_name,
    detect_layout,
    divide_columns,
    divide_final_columns,
    find_strides,
)
from pose_node.inference.onnx_metadata import FileFacts

POSE = FileFacts(keypoint_shape=(17, 3), class_names=("person",))
FINAL = FileFacts(keypoint_shape=(17, 3), class_names=("person",), final=True)
NOTHING = FileFacts()
MAPS: list[Shape] = [(1, 3, 16 >> i, 16 >> i, 57) for i in range(4)]
HEADS: list[Shape] = [(1, c, 16 >> i, 16 >> i) for i in range(4) for c in (18, 153)]
SQUARE, RECTANGLE = (128, 128), (128, 192)


def shapes(*sizes: Shape) -> dict[str, Shape]:
    return {f"output{index}": size for index, size in enumerate(sizes)}


@pytest.mark.parametrize(
    ("outputs", "image_size", "facts", "layout"),
    [
        ([(1, 56, 336)], SQUARE, POSE, "ultralytics"),
        ([(1, 56, 336)], SQUARE, NOTHING, "ultralytics"),
        ([(1, 56, 21)], (32, 32), POSE, "ultralytics"),  # fewer predictions than columns
        ([(2, 56, 510)], RECTANGLE, NOTHING, "ultralytics"),  # four levels
        ([(1, 300, 57)], SQUARE, FINAL, "ultralytics-final"),
        ([(1, 100, 57)], SQUARE, POSE, "ultralytics-final"),
        ([(1, 300, 57)], SQUARE, NOTHING, "ultralytics-final"),
        ([(1, 56, 57)], SQUARE, FINAL, "ultralytics-final"),
        (MAPS, SQUARE, NOTHING, "yolov5-maps"),
        (HEADS, SQUARE, NOTHING, "yolov5-split-maps"),
        ([(1, 1020, 57), *MAPS], SQUARE, NOTHING, "yolov5-rows"),
        ([(1, 1530, 57)], RECTANGLE, NOTHING, "yolov5-rows"),
        ([(1, 336, 57)], SQUARE, NOTHING, "yolox-rows"),
        ([(1, 9, 9)], SQUARE, FileFacts(layout="ultralytics"), "ultralytics"),
    ],
)
def test_detected(
    outputs: list[Shape], image_size: tuple[int, int], facts: FileFacts, layout: str
) -> None:
    assert detect_layout(shapes(*outputs), image_size, facts) == layout


@pytest.mark.parametrize(
    ("outputs", "image_size", "candidates"),
    [
        ([(410, 57)], SQUARE, "yolov5-detections or yolox-detections"),
        ([(1, 84, 84)], (64, 64), "ultralytics or yolox-rows"),
    ],
)
def test_ambiguous(outputs: list[Shape], image_size: tuple[int, int], candidates: str) -> None:
    with pytest.raises(ValueError, match=f"which may be {candidates}; say which"):
        detect_layout(shapes(*outputs), image_size, NOTHING)


@pytest.mark.parametrize(
    "outputs",
    [
        [],
        [(1, 100, 57)],  # final, or what?
        [(1, 84, 8400), (1, 32, 160, 160)],  # masks
        [(1, 1), (1, 100, 4), (1, 100), (1, 100)],  # boxes alone
        [(1, 56, 335)],
        [(1, 1000)],
    ],
)
def test_unknown(outputs: list[Shape]) -> None:
    with pytest.raises(ValueError, match="expected one of ultralytics, ultralytics-final, yolov5"):
        detect_layout(shapes(*outputs), SQUARE, NOTHING)
    with pytest.raises(ValueError, match="is no layout of a pose model"):
        detect_layout(shapes((1, 80, 77)), SQUARE, POSE)


def test_names() -> None:
    assert [check_layout_name(name) for name in LAYOUT_NAMES] == list(LAYOUT_NAMES)
    with pytest.raises(ValueError, match=r"the layout must be one of ultralytics, .*, got 'v5'"):
        check_layout_name("v5")


def test_strides() -> None:
    assert find_strides(8400, (640, 640)) == (8, 16, 32)
    assert find_strides(34000, (1280, 1280)) == (8, 16, 32, 64)
    with pytest.raises(ValueError, match="gives 8401 predictions for an image of 640 x 640"):
        find_strides(8401, (640, 640))


def test_columns() -> None:
    assert divide_columns(52, NOTHING, None) == Counts(1, 17, 3)
    assert divide_columns(64, NOTHING, None) == Counts(1, 21, 3)
    assert divide_columns(53, NOTHING, 17) == Counts(2, 17, 3)
    assert divide_columns(35, NOTHING, 17) == Counts(1, 17, 2)
    two = FileFacts(keypoint_shape=(21, 2), class_names=("left", "right"))
    assert divide_columns(44, two, None) == Counts(2, 21, 2)
    assert divide_columns(65, FileFacts(class_names=("left", "right")), None) == Counts(2, 21, 3)
    with pytest.raises(ValueError, match="could be divided in several ways"):
        divide_columns(53, NOTHING, None)
    with pytest.raises(ValueError, match="21 keypoints and 2 classes do not fill"):
        divide_columns(45, two, None)
    with pytest.raises(ValueError, match="which 17 keypoints do not fill"):
        divide_columns(34, NOTHING, 17)


def test_final_columns() -> None:
    assert divide_final_columns(51, POSE, None) == Counts(1, 17, 3)
    assert divide_final_columns(51, NOTHING, None) == Counts(1, 17, 3)
    assert divide_final_columns(34, NOTHING, 17) == Counts(1, 17, 2)
    for columns, facts in ((52, NOTHING), (50, POSE), (-3, NOTHING), (17, POSE)):
        with pytest.raises(ValueError, match="columns of keypoints do not hold"):
            divide_final_columns(columns, facts, None)
