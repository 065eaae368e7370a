"""Draws how far people are with an exercise: beside each one a bar, and above it the count."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from pose_node.drawing import OUTLINE, TRACKS, UNTRACKED, Color
from pose_node.exercise import PersonProgress
from pose_node.poses import Poses

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TROUGH: Color = (90, 90, 90)
_PAUSED: Color = (150, 150, 150)
_OPACITY = 0.75  # of what lies on the image


def draw_progress(
    image_bgr: np.ndarray, poses: Poses, progress: Sequence[PersonProgress]
) -> np.ndarray:
    """Draw bars and counts on a copy of an image.

    Args:
        image_bgr: (H, W, 3) uint8, blue, green, red; stays as it is.
        poses: the people, in pixels of this image.
        progress: as `ExerciseCounter.update` gives it for these people.

    Returns:
        New (H, W, 3) uint8 image, blue, green, red.
    """
    canvas = np.array(image_bgr, order="C")
    for person in dict.fromkeys(item.person for item in progress):
        items = [item for item in progress if item.person == person]
        if np.isfinite(poses.boxes_xyxy[person]).all():
            _draw_person(canvas, poses.boxes_xyxy[person], items)
    return canvas


def _draw_person(canvas: np.ndarray, box: np.ndarray, items: Sequence[PersonProgress]) -> None:
    """One column for each count: to the right of the person, or where there is room."""
    height, width = canvas.shape[:2]
    unit = max(4, round(min(height, width) / 60))  # of all lengths, pixels
    column = 7 * unit
    panel_width = column * len(items)
    left, top, right, bottom = np.clip(box, 0, [width, height, width, height]).astype(int).tolist()
    x = right + unit
    if x + panel_width > width:
        x = left - unit - panel_width if left - unit >= panel_width else width - panel_width
    x = max(0, x)
    panel_height = min(height, max(bottom - top, 22 * unit))
    y = min(max(0, top), height - panel_height)
    caption = 2 * unit * max(len(_caption(item)) for item in items)
    for index, item in enumerate(items):
        place, size = (x + index * column, y), (column - unit, panel_height)
        _draw_column(canvas, place, size, caption, unit, item)


def _caption(item: PersonProgress) -> list[str]:
    """The words below a bar, one a line."""
    side = [] if item.side in ("both", "either") else [item.side]
    return [*item.exercise.replace("_", " ").split(), *side]


def _draw_column(
    canvas: np.ndarray,
    place: tuple[int, int],
    size: tuple[int, int],
    caption: int,
    unit: int,
    item: PersonProgress,
) -> None:
    """From above: the count, the bar, and a caption of so many pixels."""
    (x, y), (width, height) = place, size
    color = UNTRACKED if item.track_id < 0 else TRACKS[item.track_id % len(TRACKS)]
    if math.isnan(item.angle):
        color = _PAUSED
    tag = 5 * unit
    _fill(canvas, (x, y), (x + width, y + tag), color)
    _write(canvas, [str(item.repetitions)], (x, y), (width, tag))
    _fill(canvas, (x, y + height - caption), (x + width, y + height), color)
    _write(canvas, _caption(item), (x, y + height - caption), (width, caption))
    top, bottom = y + tag + unit, y + height - caption - unit
    if bottom - top > 2 * unit:
        bar = x + width // 2 - unit
        level = bottom - round((bottom - top) * item.progress)
        _fill(canvas, (bar, top), (bar + 2 * unit, bottom), _TROUGH)
        _fill(canvas, (bar, level), (bar + 2 * unit, bottom), color, opacity=1.0)


def _fill(
    canvas: np.ndarray,
    start: tuple[int, int],
    end: tuple[int, int],
    color: Color,
    opacity: float = _OPACITY,
) -> None:
    """Blend a rectangle in; what lies outside the image is cut off."""
    area = canvas[max(0, start[1]) : max(0, end[1]), max(0, start[0]) : max(0, end[0])]
    area[:] = np.rint(area * (1 - opacity) + np.array(color) * opacity)


def _write(
    canvas: np.ndarray, lines: Sequence[str], place: tuple[int, int], size: tuple[int, int]
) -> None:
    """Lines of text, as large as they fit into a rectangle, in its middle."""
    measured = [cv2.getTextSize(line, _FONT, 1.0, 1)[0] for line in lines]
    line_height = size[1] / len(lines)
    scale = min(
        0.9 * size[0] / max(width for width, _ in measured),
        0.65 * line_height / max(height for _, height in measured),
    )
    for index, (line, (width, height)) in enumerate(zip(lines, measured, strict=True)):
        x = place[0] + (size[0] - scale * width) / 2
        y = place[1] + (index + 0.5) * line_height + scale * height / 2
        thickness = max(1, round(1.6 * scale))
        origin = (round(x), round(y))
        cv2.putText(canvas, line, origin, _FONT, scale, OUTLINE, thickness, cv2.LINE_AA)
