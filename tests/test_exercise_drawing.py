"""The bars and counts: where they stand, what they show, and that nothing can break them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pose_node import Poses
from pose_node.drawing import TRACKS
from pose_node.exercise import PersonProgress
from pose_node.exercise_drawing import draw_progress


def people(*boxes: tuple[float, float, float, float]) -> Poses:
    count = len(boxes)
    return Poses.from_arrays(boxes, np.ones(count), np.zeros((count, 17, 3)), range(count))


def progress(person: int = 0, share: float = 0.5, **changes: object) -> PersonProgress:
    values: dict[str, object] = {
        "person": person,
        "track_id": person,
        "exercise": "bicep_curl",
        "side": "left",
        "repetitions": 12,
        "phase": "rising",
        "angle": 100.0,
        "progress": share,
        "counted": False,
    }
    return PersonProgress(**{**values, **changes})  # type: ignore[arg-type]


def bar_height(image: np.ndarray, track_id: int = 0) -> int:
    """Pixels of the column that has most of the track's own colour."""
    return int((image == TRACKS[track_id]).all(axis=2).sum(axis=0).max())


def test_bar_grows_with_progress_and_the_image_stays() -> None:
    image = np.full((480, 640, 3), 40, np.uint8)
    poses = people((100, 50, 200, 450))
    heights = [bar_height(draw_progress(image, poses, [progress(share=s)])) for s in (0, 0.5, 1)]
    assert heights[0] < 5
    assert heights[1] == pytest.approx(heights[2] / 2, abs=3)
    assert heights[2] > 200
    assert (image == 40).all()


def test_it_stands_beside_the_person_and_changes_nothing_else() -> None:
    image = np.full((480, 640, 3), 40, np.uint8)
    changed = np.argwhere(draw_progress(image, people((100, 50, 200, 450)), [progress()]) != image)
    assert changed[:, 1].min() > 200
    assert changed[:, 1].max() < 300
    assert changed[:, 0].min() >= 50
    assert changed[:, 0].max() <= 450


@pytest.mark.parametrize(
    "box",
    [
        (500, 50, 630, 450),  # no room on the right
        (0, 0, 640, 480),  # none anywhere
        (-5000, -4000, 6000, 7000),
        (700, 500, 900, 900),  # beside the image
        (10, 470, 12, 472),  # tiny, at the bottom
    ],
)
def test_it_is_always_whole(box: tuple[float, float, float, float]) -> None:
    image = np.full((480, 640, 3), 40, np.uint8)
    drawn = draw_progress(image, people(box), [progress(share=1.0)])
    assert bar_height(drawn) > 30


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7), (40, 40)])
@pytest.mark.parametrize("count", [1, 4])
def test_small_images_do_no_harm(size: tuple[int, int], count: int) -> None:
    image = np.zeros((*size, 3), np.uint8)
    items = [progress(exercise="jumping_jack", side=f"{index}") for index in range(count)]
    assert draw_progress(image, people((0, 0, 5, 5)), items).shape == image.shape


def test_who_is_not_seen_is_grey_and_boxes_that_are_none_are_left_out() -> None:
    image = np.full((480, 640, 3), 40, np.uint8)
    poses = people((100, 50, 200, 450), (math.nan, 0, 1, 1))
    drawn = draw_progress(image, poses, [progress(angle=math.nan), progress(person=1)])
    assert (drawn == TRACKS[0]).all(axis=2).sum() == 0
    assert (drawn == TRACKS[1]).all(axis=2).sum() == 0
    assert (drawn != image).any()


def test_nobody() -> None:
    image = np.full((48, 64, 3), 40, np.uint8)
    drawn = draw_progress(image, Poses.empty(17), [])
    assert (drawn == image).all()
    assert drawn is not image
