"""The tracker on scenes with known identities and on real people."""

from __future__ import annotations

import motmetrics
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pose_node import COCO17, Poses
from pose_node.tracking import (
    MAX_ID,
    REORDER_SECONDS,
    PoseTracker,
    TrackerSettings,
    TrackState,
    publishable,
)
from tests.tracking.scenes import Observed, Person, crossing, crowd, jump, observe, walk

Pairs = list[tuple[np.ndarray, np.ndarray]]


def follow(images: list[Observed], tracker: PoseTracker | None = None) -> Pairs:
    """The people of each image and the ids that they get."""
    tracker = tracker or PoseTracker(COCO17)
    return [(image.people, tracker.update(image.poses, image.stamp_ns).ids) for image in images]


def judge(pairs: Pairs) -> dict[str, float]:
    """IDF1, switches and fragmentations by a library of its own."""
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    for people, ids in pairs:
        rows, columns = np.flatnonzero(people >= 0), np.flatnonzero(ids >= 0)
        same = rows[:, None] == columns[None]
        accumulator.update(people[rows], ids[columns], np.where(same, 0.0, np.nan))
    names = ["idf1", "num_switches", "num_fragmentations"]
    return dict(motmetrics.metrics.create().compute(accumulator, metrics=names).iloc[0])


def one(stamp_s: float, x: float = 100, score: float = 0.9) -> tuple[Poses, int]:
    """One person at a place, and the stamp in nanoseconds."""
    points = np.stack((np.linspace(x, x + 80, 17), np.linspace(100, 380, 17)), 1)
    keypoints = np.concatenate((points, np.full((17, 1), 0.9)), 1)[None]
    box = np.array([[x, 100, x + 80, 380]])
    return Poses.from_arrays(box, [score], keypoints), round(stamp_s * 1e9)


# Scenes


@pytest.mark.parametrize("rate", [10, 30])
@pytest.mark.parametrize("seed", [0, 1])
def test_people_who_cross(rate: float, seed: int) -> None:
    """Three pairs, who hide each other; a tenth of the people are missed by the detector."""
    found = judge(follow(observe(crossing(seed), 45, rate, missed=0.1, seed=seed)))
    assert found["num_switches"] == 0
    assert found["idf1"] >= 0.95


def test_thirty_people() -> None:
    """In an open crowd, where they hide each other for seconds."""
    found = [
        judge(follow(observe(crowd(30, seed), 15, 30, missed=0.1, seed=seed))) for seed in range(3)
    ]
    assert np.mean([result["idf1"] for result in found]) >= 0.95


@pytest.mark.parametrize("rate", [2, 5, 60])
def test_any_rate(rate: float) -> None:
    people = [Person(walk(-1.0, 4.0, 0.25)), Person(walk(1.2, 6.0, -0.1))]
    pairs = follow(observe(people, 8, rate, missed=0.0, seed=3))
    assert judge(pairs)["num_switches"] == 0
    ids = {int(track) for _, given in pairs for track in given if track >= 0}
    assert len(ids) == 2


def test_dropped_images_and_false_people() -> None:
    people = [Person(walk(-2.0, 5.0, 0.6)), Person(walk(2.0, 7.0, -0.3))]
    images = observe(people, 8, 30, missed=0.1, dropped=0.5, false_people=0.2, seed=4)
    assert judge(follow(images))["num_switches"] == 0


def test_somebody_who_jumps() -> None:
    pairs = follow(observe([Person(jump(0, 5))], 6, 15, missed=0.1, seed=5))
    assert judge(pairs)["num_switches"] == 0


# Ids


def test_ids_come_when_confirmed_and_stay() -> None:
    settings = TrackerSettings(confirm_hits=3, confirm_seconds=0.2)
    tracker = PoseTracker(COCO17, settings)
    ids = [int(tracker.update(*one(0.1 * i, 100 + 2 * i)).ids[0]) for i in range(6)]
    assert ids == [-1, -1, 1, 1, 1, 1]


def test_the_same_person_after_a_while_and_a_new_one_after_longer() -> None:
    tracker = PoseTracker(COCO17, TrackerSettings(lost_seconds=1.0))
    for i in range(5):
        tracker.update(*one(0.1 * i))
    assert [track.state for track in tracker.tracks] == [TrackState.CONFIRMED]
    tracker.update(Poses.empty(17), round(0.5e9))
    assert [track.state for track in tracker.tracks] == [TrackState.LOST]
    assert tracker.update(*one(1.2)).ids.tolist() == [1]
    for stamp in (1.5, 2.0, 2.5):
        tracker.update(Poses.empty(17), round(stamp * 1e9))
    assert tracker.tracks == []
    ids = [int(tracker.update(*one(2.6 + 0.1 * i)).ids[0]) for i in range(4)]
    assert ids[0] == -1
    assert ids[-1] == 2


@pytest.mark.parametrize("jump_s", [-10.0, 60.0])
def test_a_clock_that_jumps_ends_all_tracks(jump_s: float) -> None:
    tracker = PoseTracker(COCO17)
    for i in range(5):
        tracker.update(*one(100 + 0.1 * i))
    ids = [int(tracker.update(*one(100.5 + jump_s + 0.1 * i)).ids[0]) for i in range(5)]
    assert ids[0] == -1  # as if they had never been seen
    assert ids[-1] == 2  # and the id is a new one


def test_equal_and_slightly_older_stamps() -> None:
    tracker = PoseTracker(COCO17)
    for i in range(5):
        tracker.update(*one(0.1 * i))
    assert tracker.update(*one(0.4)).ids.tolist() == [1]
    assert tracker.update(*one(0.4 - REORDER_SECONDS / 2)).ids.tolist() == [1]
    assert tracker.update(*one(0.5)).ids.tolist() == [1]


def test_weak_people_continue_a_track_and_start_none() -> None:
    tracker = PoseTracker(COCO17, TrackerSettings(low_score=0.1, high_score=0.3))
    assert all(tracker.update(*one(0.1 * i, score=0.2)).ids[0] == -1 for i in range(5))
    for i in range(5, 10):
        tracker.update(*one(0.1 * i))
    weak, nobody = tracker.update(*one(1.0, score=0.2)), one(1.1, score=0.05)
    assert weak.ids.tolist() == [1]
    assert tracker.update(*nobody).ids.tolist() == [-1]
    assert len(publishable(weak, 0.3)) == 1
    assert len(publishable(one(0, score=0.2)[0], 0.3)) == 0


def test_reset_forgets_people_and_not_ids() -> None:
    tracker = PoseTracker(COCO17)
    for i in range(5):
        tracker.update(*one(0.1 * i))
    tracker.reset()
    assert tracker.tracks == []
    ids = [int(tracker.update(*one(0.5 + 0.1 * i)).ids[0]) for i in range(5)]
    assert ids[-1] == 2


def test_settings_may_change_between_images() -> None:
    tracker = PoseTracker(COCO17)
    tracker.settings = TrackerSettings(confirm_hits=1, confirm_seconds=0)
    assert tracker.update(*one(0)).ids.tolist() == [1]


def test_ids_begin_where_they_are_told() -> None:
    tracker = PoseTracker(COCO17, TrackerSettings(confirm_hits=1, confirm_seconds=0), first_id=40)
    assert tracker.update(*one(0)).ids.tolist() == [40]
    with pytest.raises(ValueError, match="first_id must be 0 to 2147483647, got -1"):
        PoseTracker(COCO17, first_id=-1)


def test_ids_end_before_they_would_not_fit_the_message() -> None:
    settings = TrackerSettings(confirm_hits=1, confirm_seconds=0)
    tracker = PoseTracker(COCO17, settings, first_id=MAX_ID)
    assert tracker.update(*one(0)).ids.tolist() == [MAX_ID]
    tracker.reset()
    assert tracker.update(*one(1)).ids.tolist() == [-1]


def test_a_move_that_nobody_expected_keeps_the_id() -> None:
    """Further than people move; a new track begins, and gets the id of the one that was lost."""
    tracker = PoseTracker(COCO17)
    for i in range(10):
        tracker.update(*one(0.1 * i))
    ids = [int(tracker.update(*one(1.0 + 0.1 * i, 290)).ids[0]) for i in range(4)]
    assert set(ids) <= {-1, 1}
    assert ids[-1] == 1
    assert [track.track_id for track in tracker.tracks] == [1]


def test_a_slice_of_a_person_starts_no_track() -> None:
    tracker = PoseTracker(COCO17)
    for i in range(6):
        person, stamp = one(0.1 * i)
        points = person.keypoints.copy()
        points[..., :2] += 40
        inner = np.array([[110, 200, 170, 370]])
        both = Poses.from_arrays(
            np.concatenate((person.boxes_xyxy, inner)),
            [0.9, 0.4],
            np.concatenate((person.keypoints, points)),
        )
        ids = tracker.update(both, stamp).ids.tolist()
    assert ids == [1, -1]


def test_what_is_no_number_does_no_harm() -> None:
    tracker = PoseTracker(COCO17)
    for i in range(6):
        person, stamp = one(0.1 * i)
        if i == 3:
            person.keypoints[0, :9] = np.nan
            person.keypoints[0, 9:, 0] = np.inf
        ids = tracker.update(person, stamp).ids.tolist()
    assert ids == [1]


def test_tracks_tell_where_people_are() -> None:
    tracker = PoseTracker(COCO17)
    for i in range(6):
        tracker.update(*one(0.1 * i, 100 + 5 * i))
    tracker.update(Poses.empty(17), round(0.6e9))
    (track,) = tracker.tracks
    assert track.state is TrackState.LOST
    assert track.age_s == pytest.approx(0.6)
    assert track.unseen_s == pytest.approx(0.1)
    assert track.box_xyxy == pytest.approx((130, 100, 210, 380), abs=3)


def test_another_skeleton_is_refused() -> None:
    with pytest.raises(ValueError, match=r"poses must have 17 keypoints, .* got 21"):
        PoseTracker(COCO17).update(Poses.empty(21), 0)


people_of_an_image = st.lists(
    st.tuples(st.floats(-1e3, 1e4), st.floats(-1e3, 1e4), st.floats(0, 1), st.floats(0, 500)),
    max_size=5,
)


@given(st.lists(st.tuples(people_of_an_image, st.integers(0, 10**10)), max_size=8))
def test_whatever_comes_people_stay_and_ids_are_different(
    images: list[tuple[list[tuple[float, float, float, float]], int]],
) -> None:
    tracker = PoseTracker(COCO17)
    for people, stamp in images:
        boxes = np.array([(x, y, x + size, y + 2 * size) for x, y, _, size in people])
        scores = np.array([score for _, _, score, _ in people])
        keypoints = np.repeat(
            np.array([(x + size / 2, y + size, score) for x, y, score, size in people]).reshape(
                -1, 1, 3
            ),
            17,
            axis=1,
        )
        poses = Poses.from_arrays(boxes.reshape(-1, 4), scores, keypoints)
        found = tracker.update(poses, stamp)
        np.testing.assert_array_equal(found.boxes_xyxy, poses.boxes_xyxy)
        np.testing.assert_array_equal(found.keypoints, poses.keypoints)
        given_ids = found.ids[found.ids >= 0]
        assert len(set(given_ids.tolist())) == len(given_ids)


# Settings


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"low_score": -0.1}, "low_score must be 0.0 to 1.0, got -0.1"),
        ({"lost_seconds": float("nan")}, "lost_seconds must be 0.0 to 60.0, got nan"),
        ({"confirm_hits": 1.5}, "confirm_hits must be a whole number, got 1.5"),
        ({"low_score": 0.5, "high_score": 0.3}, "must not fall, got 0.5, 0.3, 0.3"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        TrackerSettings(**settings)  # type: ignore[arg-type]
