"""Non-maximum suppression: of boxes that overlap, the best one stays."""

from __future__ import annotations

import numpy as np


def non_maximum_suppression(
    boxes_xyxy: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    *,
    iou_threshold: float,
    max_kept: int,
) -> np.ndarray:
    """Exact greedy suppression, best score first; equal scores keep their order.

    A box is dropped if its intersection over union with a better one of the same class that was
    kept is above the threshold. Memory is linear in the number of boxes.

    Args:
        boxes_xyxy: (N, 4) float32.
        scores: (N,) float32.
        classes: (N,) integers.
        iou_threshold: 0 to 1.
        max_kept: stop after so many boxes.

    Returns:
        (M,) int64: indices of the kept boxes, best score first, M <= max_kept.
    """
    order = np.argsort(-scores, kind="stable")
    left, top, right, bottom = np.ascontiguousarray(boxes_xyxy[order].T)
    areas = (right - left) * (bottom - top)
    sorted_classes = classes[order]
    one_class = bool((classes == classes[:1]).all())

    kept: list[int] = []
    remaining = np.arange(len(order))
    while len(remaining) and len(kept) < max_kept:
        best, rest = remaining[0], remaining[1:]
        kept.append(order[best])
        width = np.minimum(right[best], right[rest]) - np.maximum(left[best], left[rest])
        height = np.minimum(bottom[best], bottom[rest]) - np.maximum(top[best], top[rest])
        # Two empty boxes have no union; their quotient, not a number, keeps both.
        with np.errstate(invalid="ignore", divide="ignore"):
            intersection = np.maximum(width, 0) * np.maximum(height, 0)
            union = areas[best] + areas[rest] - intersection
            overlaps = intersection / union > iou_threshold
        if not one_class:
            overlaps &= sorted_classes[rest] == sorted_classes[best]
        remaining = rest[~overlaps]
    return np.array(kept, np.int64)
