"""Smoothing: less tremble, a bounded lag, and nothing else changed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pose_node import Poses
from pose_node.smoothing import FORGET_SECONDS, RANGES, PoseSmoother, SmoothingSettings
from tests.conftest import make_poses

HEIGHT = 300.0


def people(positions: np.ndarray, *ids: int, score: float = 1.0) -> Poses:
    """One person for each id, with all 17 keypoints at a position (N, 2)."""
    count = len(ids)
    xy = np.broadcast_to(np.reshape(positions, (-1, 1, 2)), (count, 17, 2))
    keypoints = np.concatenate((xy, np.full((count, 17, 1), score)), 2)
    boxes = np.tile([0, 0, 100, HEIGHT], (count, 1))
    return Poses.from_arrays(boxes, np.ones(count), keypoints, np.array(ids))


def run(
    smoother: PoseSmoother, path: np.ndarray, *, rate: float = 30, score: float = 1.0
) -> np.ndarray:
    """Smoothed positions (T, 2) of the first keypoint of somebody who follows a path (T, 2)."""
    found = [
        smoother.update(people(xy, 7, score=score), round(index / rate * 1e9)).keypoints[0, 0, :2]
        for index, xy in enumerate(path)
    ]
    return np.array(found)


def test_somebody_who_holds_still_trembles_less() -> None:
    noise = np.random.default_rng(0).normal((200, 150), 2.0, (300, 2))
    found = run(PoseSmoother(), noise)
    assert found[30:].std(0).max() < 0.6 * noise[30:].std(0).min()
    np.testing.assert_allclose(found[30:].mean(0), (200, 150), atol=0.5)


@pytest.mark.parametrize("rate", [2, 10, 30, 60])
@pytest.mark.parametrize("score", [0.05, 1.0])
@pytest.mark.parametrize("max_lag", [0.02, 0.1])
def test_the_lag_is_bounded(rate: float, score: float, max_lag: float) -> None:
    """Also for slow movements, low scores, and the smoothest settings there are."""
    settings = SmoothingSettings(min_cutoff=0.01, speed_coefficient=0, max_lag=max_lag)
    speed = 100.0  # pixels a second
    times = np.arange(0, 10, 1 / rate)
    path = np.stack((speed * times, np.zeros_like(times)), 1)
    found = run(PoseSmoother(settings), path, rate=rate, score=score)
    assert (path - found)[:, 0].max() <= speed * max_lag * 1.001


def test_no_lag_means_no_smoothing() -> None:
    noise = np.random.default_rng(1).normal(0, 5, (50, 2))
    found = run(PoseSmoother(SmoothingSettings(max_lag=0)), noise)
    np.testing.assert_allclose(found, noise.astype(np.float32), rtol=1e-5)


def test_who_moves_fast_is_smoothed_less() -> None:
    settings = SmoothingSettings(max_lag=1.0)
    times = np.arange(0, 3, 1 / 30)
    lags = []
    for speed in (30.0, 900.0):
        path = np.stack((speed * times, np.zeros_like(times)), 1)
        lags.append((path - run(PoseSmoother(settings), path))[-1, 0] / speed)
    assert lags[1] < 0.3 * lags[0]


def test_what_the_network_is_not_sure_of_counts_less() -> None:
    settings = SmoothingSettings(max_lag=1.0, speed_coefficient=0)
    path = np.array([[0.0, 0], [0, 0], [100, 0]])
    sure, unsure = (run(PoseSmoother(settings), path, score=score)[-1, 0] for score in (1.0, 0.2))
    assert 0 < unsure < 0.5 * sure


def test_rates_do_not_matter_much() -> None:
    times = {rate: np.arange(0, 2, 1 / rate) for rate in (10, 60)}
    ends = [
        run(PoseSmoother(), np.stack((100 * np.sin(2 * t), np.zeros_like(t)), 1), rate=rate)[-1, 0]
        - 100 * np.sin(2 * t[-1])
        for rate, t in times.items()
    ]
    assert abs(ends[0] - ends[1]) < 5


def test_only_positions_change() -> None:
    smoother = PoseSmoother()
    smoother.update(people(np.zeros(2), 3), 0)
    before = people(np.full(2, 10.0), 3)
    kept = before.keypoints.copy()
    after = smoother.update(before, 33_000_000)
    np.testing.assert_array_equal(before.keypoints, kept)  # the input is left alone
    np.testing.assert_array_equal(after.keypoints[..., 2], before.keypoints[..., 2])
    np.testing.assert_array_equal(after.boxes_xyxy, before.boxes_xyxy)
    np.testing.assert_array_equal(after.ids, before.ids)
    assert 0 < after.keypoints[0, 0, 0] < 10


def test_people_without_an_id_pass_unchanged() -> None:
    smoother = PoseSmoother()
    smoother.update(people(np.zeros((2, 2)), -1, 4), 0)
    after = smoother.update(people(np.full((2, 2), 10.0), -1, 4), 33_000_000)
    assert after.keypoints[0, 0, 0] == 10
    assert after.keypoints[1, 0, 0] < 10


def test_tracks_do_not_mix() -> None:
    smoother = PoseSmoother()
    smoother.update(people(np.array([[0.0, 0], [500, 0]]), 1, 2), 0)
    after = smoother.update(people(np.array([[500.0, 0], [0, 0]]), 2, 1), 33_000_000)
    np.testing.assert_allclose(after.keypoints[:, 0, 0], [500, 0])


@pytest.mark.parametrize("later", [FORGET_SECONDS + 0.1, -0.1])
def test_a_gap_or_a_clock_set_back_starts_afresh(later: float) -> None:
    smoother = PoseSmoother()
    smoother.update(people(np.zeros(2), 1), 10**10)
    after = smoother.update(people(np.full(2, 99.0), 1), 10**10 + round(later * 1e9))
    assert after.keypoints[0, 0, 0] == 99


def test_the_same_stamp_twice() -> None:
    smoother = PoseSmoother()
    smoother.update(people(np.zeros(2), 1), 5)
    after = smoother.update(people(np.full(2, 99.0), 1), 5)
    np.testing.assert_array_equal(after.keypoints[..., :2], 99)


def test_nobody_and_another_number_of_keypoints() -> None:
    smoother = PoseSmoother()
    assert len(smoother.update(Poses.empty(17), 0)) == 0
    found = smoother.update(make_poses(2, num_keypoints=21), 1)
    assert found.keypoints.shape == (2, 21, 3)


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("value", [-1.0, 1e9, float("nan")])
def test_wrong_settings_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .*, got"):
        SmoothingSettings(**{name: value})


def test_what_is_no_number_passes_and_does_no_harm() -> None:
    smoother = PoseSmoother()
    smoother.update(people(np.zeros(2), 1), 0)
    broken = people(np.array([np.nan, 5.0]), 1)
    broken.boxes_xyxy[:] = np.inf
    assert np.isnan(smoother.update(broken, 33_000_000).keypoints[0, :, 0]).all()
    after = smoother.update(people(np.full(2, 10.0), 1), 66_000_000)
    assert np.isfinite(after.keypoints).all()
    assert 0 < after.keypoints[0, 0, 0] < 10


@given(
    st.lists(st.tuples(st.integers(-1, 3), st.floats(-1e4, 1e4), st.integers(0, 10**10))),
    st.floats(0, 2),
)
def test_whatever_comes_the_numbers_stay_finite(
    steps: list[tuple[int, float, int]], max_lag: float
) -> None:
    smoother = PoseSmoother(SmoothingSettings(max_lag=max_lag))
    for track, x, stamp in steps:
        found = smoother.update(people(np.array([x, -x]), track), stamp)
        assert np.isfinite(found.keypoints).all()
        assert found.ids.tolist() == [track]
