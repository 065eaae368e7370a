"""Suppression equals the textbook algorithm on any boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pose_node.inference.nms import non_maximum_suppression


def textbook(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, threshold: float
) -> list[int]:
    """The definition, pair by pair."""

    def overlap(a: np.ndarray, b: np.ndarray) -> np.float32:
        width = max(np.float32(0), min(a[2], b[2]) - max(a[0], b[0]))
        height = max(np.float32(0), min(a[3], b[3]) - max(a[1], b[1]))
        areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
        union = areas - width * height
        return np.float32(0) if union == 0 else width * height / union

    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        rivals = [other for other in kept if classes[other] == classes[index]]
        if all(overlap(boxes[other], boxes[index]) <= np.float32(threshold) for other in rivals):
            kept.append(index)
    return kept


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 60),
    threshold=st.sampled_from([0.0, 0.3, 0.65, 0.7, 1.0]),
    num_classes=st.integers(1, 3),
)
def test_equals_the_textbook(seed: int, count: int, threshold: float, num_classes: int) -> None:
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 60, (count, 2))
    boxes = np.hstack([corner, corner + random.uniform(0, 60, (count, 2))]).astype(np.float32)
    scores = random.choice(np.linspace(0, 1, 20), count).astype(np.float32)  # many are equal
    classes = random.integers(0, num_classes, count)
    kept = non_maximum_suppression(
        boxes, scores, classes, iou_threshold=threshold, max_kept=count + 1
    )
    assert kept.tolist() == textbook(boxes, scores, classes, threshold)


def test_stops_after_the_best() -> None:
    corner = np.arange(50, dtype=np.float32)[:, None] * 100
    boxes = np.hstack([corner, corner, corner + 10, corner + 10])
    scores = np.linspace(0.1, 0.9, 50, dtype=np.float32)
    kept = non_maximum_suppression(
        boxes, scores, np.zeros(50, np.int64), iou_threshold=0.5, max_kept=3
    )
    assert kept.tolist() == [49, 48, 47]


@pytest.mark.filterwarnings("error")
def test_empty_boxes_are_no_duplicates() -> None:
    boxes = np.zeros((2, 4), np.float32)
    scores = np.array([0.5, 0.6], np.float32)
    kept = non_maximum_suppression(
        boxes, scores, np.zeros(2, np.int64), iou_threshold=0.5, max_kept=9
    )
    assert kept.tolist() == [1, 0]
