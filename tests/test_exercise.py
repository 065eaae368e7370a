"""Counting: angles, cycles, jitter, gaps, people who come and go; and two real videos."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose_node import COCO17, PoseEngine, Poses, Skeleton
from pose_node.errors import ExerciseError
from pose_node.exercise import ExerciseCounter, PersonProgress, joint_angle
from pose_node.exercise_definitions import Exercise, JointAngle, choose_exercises

SECOND_NS = 1_000_000_000
RATE = 10.0

CURL = Exercise("curl", "left", "down", (JointAngle(("shoulder", "elbow", "wrist"), 60, 140),))
LEFT, RIGHT = (5, 7, 9), (6, 8, 10)  # shoulder, elbow, wrist


def person(left: float = 180.0, right: float = 180.0, score: float = 0.9) -> np.ndarray:
    """(17, 3): somebody whose elbows are bent to these angles, degrees."""
    keypoints = np.zeros((17, 3), np.float32)
    keypoints[:, :2] = np.arange(34).reshape(17, 2)
    keypoints[:, 2] = score
    for (shoulder, elbow, wrist), angle, x, turn in (
        (LEFT, left, 200.0, 1),
        (RIGHT, right, 100.0, -1),
    ):
        keypoints[shoulder, :2] = x, 100
        keypoints[elbow, :2] = x, 150
        # 0 degrees: the wrist at the shoulder.
        radians = math.radians(angle)
        keypoints[wrist, :2] = x + turn * 50 * math.sin(radians), 150 - 50 * math.cos(radians)
    return keypoints


def poses(people: Sequence[np.ndarray], ids: Sequence[int] | None = None) -> Poses:
    count = len(people)
    return Poses.from_arrays(
        np.tile((0, 0, 300, 300), (count, 1)),
        np.full(count, 0.9),
        np.array(people).reshape(count, 17, 3),
        [1] * count if ids is None else ids,
    )


def feed(
    counter: ExerciseCounter,
    angles: Sequence[float],
    *,
    start: float = 1.0,
    rate: float = RATE,
    track_id: int = 1,
) -> list[PersonProgress]:
    """Somebody who bends both elbows so; what the counter says of the left one (or of both)."""
    found = []
    for index, angle in enumerate(angles):
        stamp_ns = round((start + index / rate) * SECOND_NS)
        found += counter.update(stamp_ns, poses([person(angle, angle)], [track_id]))[:1]
    return found


def cycle(rate: float = RATE, seconds: float = 2.0, low: float = 20.0) -> list[float]:
    """From straight to bent and back."""
    count = round(rate * seconds)
    phase = 2 * np.pi * np.arange(count + 1) / count
    return (low + (175 - low) * (0.5 + 0.5 * np.cos(phase))).tolist()


def count(exercise: Exercise = CURL) -> ExerciseCounter:
    return ExerciseCounter([exercise], COCO17)


# --- Angles -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "last", "degrees"),
    [
        ((0, -1), (0, 1), 180),
        ((0, -1), (1, 0), 90),
        ((0, -1), (-1, 0), 90),
        ((0, -1), (0, -3), 0),
        ((0, -1), (math.sin(0.1), -math.cos(0.1)), math.degrees(0.1)),
        ((0, -1), (-math.sin(0.1), -math.cos(0.1)), math.degrees(0.1)),
        ((1e30, 0), (0, 1e30), 90),
        ((0, 0), (1, 0), math.nan),
        ((1, 0), (0, 0), math.nan),
        ((math.nan, 0), (0, 1), math.nan),
        ((math.inf, 1), (0, 1), math.nan),
    ],
)
def test_angle_is_folded(
    first: tuple[float, float], last: tuple[float, float], degrees: float
) -> None:
    assert joint_angle(first, (0, 0), last) == pytest.approx(degrees, nan_ok=True)


def test_both_sides_bent_to_either_side_of_the_image_measure_the_same() -> None:
    each = replace(CURL, side="each")
    left, right = ExerciseCounter([each], COCO17).update(0, poses([person(40, 40)]))
    assert (left.side, right.side) == ("left", "right")
    assert left.angle == pytest.approx(40, abs=1e-3)
    assert right.angle == pytest.approx(40, abs=1e-3)


# --- One count ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [2, 5, 10, 30, 60])
def test_full_cycles_are_counted_at_any_rate(rate: float) -> None:
    found = feed(count(), cycle(rate)[:-1] * 5 + [175.0], rate=rate)
    assert found[-1].repetitions == 5
    assert sum(item.counted for item in found) == 5
    # When it is back, not when it turns.
    first = next(index for index, item in enumerate(found) if item.counted)
    assert first > rate


def test_phases_and_progress_of_one_repetition() -> None:
    found = feed(count(), [175, 150, 135, 131, 129, 100, 70, 60, 20, 65, 69, 71, 100, 139, 140])
    assert [item.phase for item in found] == (
        ["down"] * 4 + ["rising"] * 3 + ["up"] * 4 + ["falling"] * 3 + ["down"]
    )
    assert [item.repetitions for item in found] == [0] * 14 + [1]
    assert [found[index].progress for index in (0, 5, 8, 14)] == pytest.approx([0, 0.5, 1, 0])
    assert found[5].angle == pytest.approx(100, abs=1e-3)


@pytest.mark.parametrize(
    "angles",
    [
        cycle(low=70),  # not far enough
        [20, 100, 175],  # begins in the middle
        [100, 20, 100, 20, 100],  # never straight
        [*cycle()[:12], 100, 110, 120],  # not back yet
        [175] * 20,
        [],
    ],
)
def test_no_count_without_a_full_cycle(angles: list[float]) -> None:
    assert all(item.repetitions == 0 for item in feed(count(), angles))


@pytest.mark.parametrize("seed", range(5))
def test_jitter_at_the_ends_counts_nothing_twice(seed: int) -> None:
    random = np.random.default_rng(seed)
    slow = np.repeat(cycle(), 6)  # holds still near every threshold
    noisy = np.clip(slow + random.normal(0, 12, slow.shape), 1, 180)
    found = feed(count(), [175.0, *(noisy.tolist() * 3), 175.0])
    assert found[-1].repetitions == 3


def test_phase_does_not_flicker() -> None:
    found = feed(count(), [175, 20, *([58, 62] * 20)])
    assert {item.phase for item in found[1:]} == {"up"}


def test_a_wrong_keypoint_for_a_moment_is_no_repetition() -> None:
    assert feed(count(), [175] * 30 + [20] + [175] * 30, rate=30)[-1].repetitions == 0


def test_squat_begins_at_the_top() -> None:
    squat = replace(CURL, start="up", angles=(JointAngle(CURL.angles[0].joints, 160, 110),))
    found = feed(count(squat), [175, 140, 100, 90, 100, 140, 165])
    assert [item.repetitions for item in found] == [0] * 6 + [1]
    assert [item.phase for item in found] == ["up", "falling", *["down"] * 3, "rising", "up"]
    assert found[3].progress == 1.0


# --- What is not seen ---------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["score", "nan score", "nan place", "same place"])
def test_joints_that_are_not_seen_pause(fault: str) -> None:
    hidden = person(100)
    if fault == "same place":
        hidden[9, :2] = hidden[7, :2]
    else:
        hidden[9, 2 if "score" in fault else 0] = 0.49 if fault == "score" else math.nan
    counter = count()
    angles = cycle()
    feed(counter, angles[:10])  # bent by now
    for index in range(100):
        (item,) = counter.update(round((3 + index / RATE) * SECOND_NS), poses([hidden]))
        assert math.isnan(item.angle)
        assert (item.repetitions, item.phase, item.progress) == (0, "up", 1.0)
    assert feed(counter, angles[10:], start=14.0)[-1].repetitions == 1


def test_both_needs_both_sides_together() -> None:
    counter = count(replace(CURL, side="both"))
    for index, (left, right) in enumerate([(175, 175), (20, 175), (175, 20), (175, 175)] * 3):
        (item,) = counter.update(index * SECOND_NS, poses([person(left, right)]))
    assert (item.side, item.repetitions) == ("both", 0)
    assert feed(counter, cycle(), start=60.0)[-1].repetitions == 1
    hidden = person(20, 20)
    hidden[RIGHT[2], 2] = 0.1
    (item,) = counter.update(90 * SECOND_NS, poses([hidden]))
    assert math.isnan(item.angle)


def test_either_counts_whatever_side_moves_or_is_seen() -> None:
    counter = count(replace(CURL, side="either"))
    pairs = [(175, 175), (20, 175), (175, 175), (175, 20), (175, 175), (20, 20), (175, 175)]
    for index, (left, right) in enumerate(pairs):
        (item,) = counter.update(index * SECOND_NS, poses([person(left, right)]))
    assert (item.side, item.repetitions) == ("either", 3)
    for index, left in enumerate((20, 175)):
        hidden = person(left, 90)
        hidden[RIGHT[1], 2] = 0.1
        (item,) = counter.update((10 + index) * SECOND_NS, poses([hidden]))
    assert item.repetitions == 4


def test_each_counts_alternating_arms() -> None:
    counter = count(replace(CURL, side="each"))
    for index, (left, right) in enumerate([(175, 175), (20, 175), (175, 20)] * 4 + [(175, 175)]):
        sides = counter.update(index * SECOND_NS, poses([person(left, right)]))
    assert [(item.side, item.repetitions) for item in sides] == [("left", 4), ("right", 4)]


def test_all_angles_must_arrive() -> None:
    still = JointAngle(("opposite_elbow", "shoulder", "elbow"), 0, 9)
    found = feed(count(replace(CURL, angles=(*CURL.angles, still))), cycle() * 2)
    assert found[-1].repetitions == 0
    assert 0 < found[10].progress < 1


# --- People -------------------------------------------------------------------------------------


def test_everybody_has_counts_of_their_own_in_whatever_order_they_come() -> None:
    counter = count()
    for index, angle in enumerate([*cycle(), 175]):
        pair = [person(angle), person(175)]
        people = poses(pair, [7, 4]) if index % 2 else poses(pair[::-1], [4, 7])
        found = counter.update(round((index / RATE) * SECOND_NS), people)
    assert [(item.person, item.track_id, item.repetitions) for item in found] == [
        (0, 7, 1),
        (1, 4, 0),
    ]


def test_nobody_in_view() -> None:
    counter = count()
    assert counter.update(0, poses([])) == []
    assert counter.unidentified == 0


def test_one_untracked_person_is_counted() -> None:
    counter = count()
    found = feed(counter, cycle(), track_id=-1)
    assert (found[-1].track_id, found[-1].repetitions) == (-1, 1)
    assert counter.unidentified == 0


def test_several_untracked_people_are_not_told_apart() -> None:
    counter = count()
    assert counter.update(0, poses([person(), person()], [-1, -1])) == []
    assert counter.unidentified == 2


def test_a_newcomer_beside_tracked_people_is_no_reason_to_complain() -> None:
    counter = count()
    (item,) = counter.update(0, poses([person(), person()], [-1, 3]))
    assert (item.person, item.track_id) == (1, 3)
    assert counter.unidentified == 0


def test_counts_go_over_to_the_id_that_the_tracker_gives() -> None:
    counter = count()
    first, rest = cycle()[:6], cycle()[6:]
    feed(counter, first, track_id=-1)
    assert feed(counter, rest, start=1.6, track_id=12)[-1].repetitions == 1
    feed(counter, first, start=10.0, track_id=-1)
    assert feed(counter, rest, start=20.0, track_id=13)[-1].repetitions == 0  # somebody else


def test_who_is_out_of_view_for_long_is_forgotten() -> None:
    counter = ExerciseCounter([CURL], COCO17, forget_after=5.0)
    feed(counter, cycle())
    assert feed(counter, [175], start=8.0)[-1].repetitions == 1
    assert feed(counter, [175], start=13.1)[-1].repetitions == 0
    assert counter.reset() == 1


def test_reset() -> None:
    counter = count()
    feed(counter, cycle())
    assert counter.reset() == 1
    assert feed(counter, [175], start=4.0)[-1].repetitions == 0


def test_time_that_begins_anew() -> None:
    counter = count()
    feed(counter, cycle(), start=100.0)
    assert feed(counter, cycle()[:12], start=5.0)[-1].repetitions == 0
    assert feed(counter, cycle(), start=8.0)[-1].repetitions == 2


def test_a_late_image_is_left_out() -> None:
    counter = count()
    feed(counter, [175], start=10.0)
    assert feed(counter, [20], start=9.5) == []
    assert feed(counter, [175], start=10.5)[-1].phase == "down"


# --- Skeletons ----------------------------------------------------------------------------------


def test_skeleton_without_the_joints() -> None:
    hand = Skeleton.for_keypoints(21)
    with pytest.raises(ExerciseError, match=r"'curl' needs the keypoint left_shoulder or shoulder"):
        ExerciseCounter([CURL], hand)


def test_poses_of_another_skeleton() -> None:
    with pytest.raises(ValueError, match=r"expected poses with the 17 keypoints .* got 4"):
        count().update(0, Poses.empty(4))


def test_joints_in_the_middle_and_of_the_other_side() -> None:
    angle = JointAngle(("nose", "shoulder", "opposite_shoulder"), 90, 10)
    joints = replace(CURL, side="both", angles=(angle,)).joints(COCO17)
    assert joints == {"left": ((0, 5, 6),), "right": ((0, 6, 5),)}


# --- Built-in exercises, on movements that are drawn ----------------------------------------------


def body(raise_arm: float, bend_elbow: float, bend_knee: float, spread: float) -> np.ndarray:
    """(17, 3): somebody from the front: upper arm from hanging, elbow, knee, leg from the vertical,
    degrees; bent knees are seen from the side."""
    keypoints = np.full((17, 3), 0.9, np.float32)
    keypoints[:5, :2] = 300, 50

    def go(start: np.ndarray, degrees: float, turn: int, length: float) -> np.ndarray:
        """From a point on, in a direction from straight down."""
        radians = math.radians(degrees)
        return start + length * np.array((turn * math.sin(radians), math.cos(radians)))

    for side, turn in ((0, 1), (1, -1)):
        shoulder = np.array((300 + turn * 20.0, 100.0))
        elbow = go(shoulder, raise_arm, turn, 40)
        wrist = go(elbow, raise_arm + 180 - bend_elbow, turn, 40)
        hip = np.array((300 + turn * 12.0, 200.0))
        knee = go(hip, spread + (180 - bend_knee) / 2, turn, 50)
        ankle = go(knee, spread - (180 - bend_knee) / 2, turn, 50)
        keypoints[5 + side :: 2, :2] = shoulder, elbow, wrist, hip, knee, ankle
    return keypoints


REST = (10.0, 175.0, 178.0, 0.0)
MOVEMENTS = {
    "bicep_curl": (REST, (10.0, 20.0, 178.0, 0.0)),
    "squat": (REST, (40.0, 90.0, 80.0, 0.0)),
    "shoulder_press": ((70.0, 60.0, 178.0, 0.0), (170.0, 170.0, 178.0, 0.0)),
    "jumping_jack": (REST, (160.0, 175.0, 178.0, 25.0)),
}


def movement(name: str, repetitions: int) -> Iterator[np.ndarray]:
    """Somebody who does an exercise, at `RATE`, two seconds each."""
    start, turn = (np.array(end) for end in MOVEMENTS[name])
    steps = round(2 * RATE)
    for step in range(repetitions * steps + 1):
        share = 0.5 - 0.5 * math.cos(2 * math.pi * step / steps)
        yield body(*(start + share * (turn - start)))


@pytest.mark.parametrize("name", MOVEMENTS)
def test_each_built_in_exercise_counts_its_own_movement(name: str) -> None:
    counter = ExerciseCounter(choose_exercises(list(MOVEMENTS)), COCO17)
    for index, keypoints in enumerate(movement(name, 4)):
        found = counter.update(round(index / RATE * SECOND_NS), poses([keypoints]))
    counts = {item.exercise: item.repetitions for item in found}
    assert counts.pop(name) == 4
    assert set(counts.values()) == {0}


# --- Real videos --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("video", "exercise", "every", "frames", "expected"),
    [
        # Watched: two squats, and a third from which she has not risen when the video ends.
        ("squats", "squat", 1, 65, {"either": 2}),
        # Watched: eight curls of both arms in all, two up to frame 240; every third is 10 Hz.
        ("bicep_curl", "bicep_curl", 3, 240, {"left": 2, "right": 2}),
    ],
)
def test_real_video(
    shared: Path,
    yolo11n_pose: Path,
    video: str,
    exercise: str,
    every: int,
    frames: int,
    expected: dict[str, int],
) -> None:
    engine = PoseEngine.load(str(yolo11n_pose), device="cpu", image_size=256)
    counter = ExerciseCounter(choose_exercises([exercise]), COCO17)
    capture = cv2.VideoCapture(str(shared / "data" / "videos" / f"{video}.mp4"))
    rate = capture.get(cv2.CAP_PROP_FPS)
    found: list[PersonProgress] = []
    for index in range(frames):
        assert capture.grab()
        if index % every == 0:
            _, image = capture.retrieve()
            found = counter.update(round(index / rate * SECOND_NS), engine([image])[0])
    capture.release()
    assert {item.side: item.repetitions for item in found} == expected
