"""Outputs of every layout become the rows that our own networks give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pose_node.inference.onnx_decoding import PUBLISHED_ANCHORS, OutputFormat, make_format
from pose_node.inference.onnx_layouts import Counts
from pose_node.inference.onnx_metadata import FileFacts

NOTHING = FileFacts()
SQUARE = (128, 128)


@pytest.fixture
def expected(shared: Path) -> Any:
    return np.load(shared / "fixtures/onnx_expected.npz")


@pytest.fixture
def maps(expected: Any) -> list[Tensor]:
    """Raw maps (1, 3, H, W, 57) of four levels."""
    return [torch.from_numpy(expected[f"y5_s6_tiny_pose_raw__{i}"]) for i in range(4)]


def reading(
    layout: str,
    outputs: dict[str, Tensor],
    *,
    facts: FileFacts = NOTHING,
    size: tuple[int, int] = SQUARE,
    **settings: Any,
) -> tuple[OutputFormat, Tensor]:
    """The format, and the rows that it reads."""
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    form = make_format(layout, shapes, size, facts, **settings)
    return form, form.decode([outputs[name] for name in form.outputs], size)


def test_columns() -> None:
    output = torch.zeros(1, 4 + 2 + 4, 21)
    output[0, :, 3] = torch.tensor([10, 20, 4, 6, 0.1, 0.9, 1, 2, 3, 4])
    facts = FileFacts(keypoint_shape=(2, 2), class_names=("a", "b"), strides=(16,), family="yolo11")
    form, rows = reading("ultralytics", {"o": output}, facts=facts, size=(32, 32))
    assert form.counts == Counts(2, 2, 2)
    assert (form.strides, form.family, form.final) == ((16,), "yolo11", False)
    assert rows.shape == (1, 21, 10)
    torch.testing.assert_close(rows[0, 3], torch.tensor([8, 17, 12, 23, 0.1, 0.9, 1, 2, 3, 4]))


def test_strides_of_an_unusual_network() -> None:
    output = torch.zeros(1, 56, 5)
    assert reading("ultralytics", {"o": output}, size=(32, 32))[0].strides == (64,)


def test_final_rows_have_the_score_of_their_class() -> None:
    row = [1, 2, 3, 4, 0.9, 1, 5, 6, 0.5]
    output = torch.tensor([[row, [0.0] * 9]])
    facts = FileFacts(keypoint_shape=(1, 3), class_names=("a", "b", "c"))
    form, rows = reading("ultralytics-final", {"o": output}, facts=facts)
    assert form.final
    assert rows.tolist() == [[[1, 2, 3, 4, 0, pytest.approx(0.9), 0, 5, 6, 0.5], [0.0] * 10]]
    # Without names there is one class for all.
    _, rows = reading("ultralytics-final", {"o": output})
    assert rows[0, 0].tolist() == [1, 2, 3, 4, pytest.approx(0.9), 5, 6, 0.5]


def test_split_maps_are_joined_before_they_are_cut(maps: list[Tensor]) -> None:
    joined = {f"{10 - i}": rows for i, rows in enumerate(maps)}
    form, rows = reading("yolov5-maps", joined)
    assert (form.strides, form.counts, form.family) == ((8, 16, 32, 64), Counts(1, 17, 3), "yolov5")
    assert form.anchors is not None
    assert form.anchors.tolist() == [[list(a) for a in level] for level in PUBLISHED_ANCHORS]
    split = {}
    for level in (2, 0, 3, 1):  # in any order
        channels = maps[level].permute(0, 1, 4, 2, 3).flatten(1, 2)
        split[f"keypoints{level}"], split[f"boxes{level}"] = channels[:, 18:], channels[:, :18]
    _, again = reading("yolov5-split-maps", split)
    torch.testing.assert_close(again, rows, rtol=0, atol=1e-3)


def test_anchors_are_asked_for_where_they_are_not_the_published_ones(maps: list[Tensor]) -> None:
    three = {str(i): rows for i, rows in enumerate(maps[:3])}
    with pytest.raises(ValueError, match="its anchors are not in the file"):
        reading("yolov5-maps", three)
    form, rows = reading("yolov5-maps", three, anchors=PUBLISHED_ANCHORS[:3])
    _, all_rows = reading("yolov5-maps", {str(i): m for i, m in enumerate(maps)})
    assert form.strides == (8, 16, 32)
    torch.testing.assert_close(rows, all_rows[:, : rows.shape[1]])
    with pytest.raises(ValueError, match="anchors must be a width and a height for 3 levels"):
        reading("yolov5-maps", three, anchors=PUBLISHED_ANCHORS)


@pytest.mark.parametrize(
    ("layout", "key", "decoded", "classes"),
    [
        ("yolov5-detections", "y5_s6_tiny_pose_nms_detections__0", "y5_s6_tiny_pose", False),
        ("yolov5-detections", "y7_w6_tiny_pose_nms_detections__0", "y7_w6_tiny_pose", False),
        ("yolox-detections", "yx_tiny_human_pose_detections__0", "yx_tiny_human_pose", True),
    ],
)
def test_detections(
    shared: Path, expected: Any, layout: str, key: str, decoded: str, classes: bool
) -> None:
    """Every detection is one of the decoded rows of the same network."""
    form, rows = reading(layout, {"detections": torch.from_numpy(expected[key])})
    assert form.final
    assert form.without_batch
    assert form.preprocessing.channel_order == ("bgr" if classes else "rgb")
    reference = torch.from_numpy(np.load(shared / f"fixtures/{decoded}.npz")["sq_decoded"])
    outputs = {"rows": reference}
    if classes:  # decoded, but for the visibility
        outputs["rows"][..., 8::3] = outputs["rows"][..., 8::3].sigmoid()
        centre, size = reference[0, :, :2], reference[0, :, 2:4]
        score = reference[0, :, 4:5] * reference[0, :, 5:6]
        all_rows = torch.cat((centre - size / 2, centre + size / 2, score, reference[0, :, 6:]), 1)
    else:
        all_rows = reading("yolov5-rows", outputs)[1][0]
    gaps = torch.cdist(rows[0].double(), all_rows.double(), p=float("inf"))
    assert len(rows[0]) > 100
    assert gaps.min(1).values.max() < 5e-3
    assert len(gaps.argmin(1).unique()) == len(rows[0])


def test_nobody_detected() -> None:
    _, rows = reading("yolov5-detections", {"detections": torch.zeros(0, 57)})
    assert rows.shape == (1, 0, 56)


@pytest.mark.parametrize(
    ("layout", "shapes", "text"),
    [
        ("ultralytics", [(1, 56, 336), (1, 2, 3)], "has one output of 3 dimensions"),
        ("ultralytics", [(410, 57)], "has one output of 3 dimensions"),
        ("yolov5-detections", [(1, 56, 336)], "has one output of 2 dimensions"),
        ("yolov5-rows", [(1, 337, 57)], "has 3 rows for each cell, got 337"),
        ("yolov5-rows", [(1, 336, 57)], "gives 112 predictions for an image of 128 x 128"),
        ("yolox-rows", [(1, 336, 58)], "could be divided in several ways"),
        ("yolov5-maps", [(1, 56, 336)], "yolov5-maps has maps of one kind"),
        ("yolov5-maps", [(1, 3, 16, 16, 57), (1, 3, 8, 8, 56)], "maps of one kind"),
        ("yolov5-maps", [(1, 3, 16, 15, 57)], r"its maps have \[\(16, 15\)\] cells"),
        ("yolov5-split-maps", [(1, 18, 16, 16)], "a map of boxes and one of keypoints"),
        ("yolov5-split-maps", [(1, 18, 16, 16), (1, 153, 8, 8)], "a map of boxes and one"),
        ("yolov5-split-maps", [(1, 18, 16, 16), (1, 154, 16, 16)], "rows for 3 anchors"),
    ],
)
def test_outputs_that_do_not_fit(layout: str, shapes: list[Any], text: str) -> None:
    named = {f"o{index}": shape for index, shape in enumerate(shapes)}
    with pytest.raises(ValueError, match=text):
        make_format(layout, named, SQUARE, NOTHING)
