"""Similarity, doubles and assignment on small numbers."""

from __future__ import annotations

import numpy as np
import pytest

from pose_node import COCO17
from pose_node.tracking.similarity import assign, compare, doubles, overlap
from pose_node.tracking.tracks import Detections, Tracks

SIGMAS = np.array(COCO17.sigmas)


def people(*places: float, score: float = 0.9, size: float = 100) -> Detections:
    """People of one shape at these x."""
    x = np.array(places, float)[:, None]
    shape = np.random.default_rng(0).uniform(0, 1, (17, 2)) * (size, 2.5 * size)
    points = shape + np.stack((x, np.zeros_like(x)), axis=-1)
    boxes = np.concatenate((x, 0 * x, x + size, 0 * x + 2.5 * size), axis=1)
    scores = np.full((len(places), 17, 1), score)
    return Detections.from_arrays(
        boxes, np.full(len(places), score), np.concatenate((points, scores), axis=-1)
    )


def test_overlap() -> None:
    boxes = np.array([[0.0, 0, 2, 2], [0, 0, 0, 0]])
    others = np.array([[1.0, 0, 3, 2], [0, 0, 2, 2], [5, 5, 6, 6]])
    np.testing.assert_allclose(
        overlap(boxes[:, None], others[None]), [[1 / 3, 1, 0], [0, 0, 0]], atol=1e-9
    )


def test_somebody_where_they_were_is_most_alike() -> None:
    tracks = Tracks.starting(people(0, 300))
    tracks.predict(0.1)
    compared = compare(tracks, people(5, 300), SIGMAS)
    assert compared.similar[0, 0] > 0.9
    assert compared.similar[1, 1] > 0.9
    assert (compared.likely.argmax(axis=1) == [0, 1]).all()
    np.testing.assert_allclose(compared.moved[0, 0], (5, 0), atol=1e-6)


def test_nobody_is_searched_for_too_far_away_or_of_another_size() -> None:
    tracks = Tracks.starting(people(0))
    tracks.predict(0.1)
    assert compare(tracks, people(900), SIGMAS).similar[0, 0] == 0
    tracks.predict(2.0)  # lost for long: somewhere, but not a child any more
    near, child = people(60), people(60, size=25)
    assert compare(tracks, near, SIGMAS).similar[0, 0] > 0.9
    assert compare(tracks, child, SIGMAS).similar[0, 0] < 0.3


def test_keypoints_that_nobody_sees_leave_it_to_the_boxes() -> None:
    tracks = Tracks.starting(people(0, score=0.0))
    tracks.predict(0.05)
    compared = compare(tracks, people(10, score=0.0), SIGMAS)
    assert compared.similar[0, 0] > 0.8
    np.testing.assert_allclose(compared.moved[0, 0], (10, 0), atol=1e-6)


def test_the_motion_model_keeps_a_velocity_and_forgets_it_later() -> None:
    tracks = Tracks.starting(people(0))
    for x in range(10, 110, 10):  # 100 pixels a second
        tracks.predict(0.1)
        compared = compare(tracks, people(x), SIGMAS)
        tracks.correct(np.array([0]), people(x), compared.moved[[0], [0]], compared.trust[[0], [0]])
    assert tracks.velocity[0] == pytest.approx((100, 0), abs=15)
    place, variance = tracks.position[0, 0], tracks.covariance[0, 0]
    tracks.predict(0.1)
    assert tracks.position[0, 0] - place == pytest.approx(10, abs=2)
    assert tracks.covariance[0, 0] > variance
    tracks.predict(10)
    assert np.abs(tracks.velocity).max() < 1


def test_one_long_step_is_as_good_as_many_short_ones() -> None:
    once, often = Tracks.starting(people(0)), Tracks.starting(people(0))
    for tracks in (once, often):
        tracks.velocity[:] = (80, -20)
    once.predict(1.0)
    for _ in range(100):
        often.predict(0.01)
    np.testing.assert_allclose(once.position, often.position)
    np.testing.assert_allclose(once.covariance, often.covariance, rtol=1e-6)


def test_doubles() -> None:
    found = doubles(people(3, 250), people(0, 500), SIGMAS)
    assert found.tolist() == [[True, False], [False, False]]
    weak = people(0, score=0.3, size=60)
    weak.point_scores[:] = 0
    assert doubles(weak, people(-5), SIGMAS).tolist() == [[True]]
    assert doubles(people(-5), weak, SIGMAS).tolist() == [[False]]
    assert doubles(people(0), people(), SIGMAS).shape == (1, 0)


def test_assignment_is_the_best_in_sum() -> None:
    likely = np.array([[0.9, 0.8], [0.8, 0.1]])
    rows, columns = assign(likely, likely, 0.05)
    assert list(zip(rows, columns, strict=True)) == [(0, 1), (1, 0)]


def test_assignment_makes_no_pair_below_the_threshold() -> None:
    rows, _ = assign(np.full((2, 2), 0.2), np.ones((2, 2)), 0.3)
    assert len(rows) == 0
    rows, _ = assign(np.empty((0, 3)), np.empty((0, 3)), 0.3)
    assert len(rows) == 0


def test_better_nobody_than_the_wrong_one() -> None:
    """The first track is likelier, but not alike enough: the second does not get the person."""
    similar, likely = np.array([[0.25], [0.5]]), np.array([[0.6], [0.2]])
    assert len(assign(similar, likely, 0.3)[0]) == 0
    assert assign(similar, likely / [[4], [1]], 0.3)[0].tolist() == [1]
