"""Counts repetitions of exercises: angles at joints that go from one end to the other and back.

Pure: people in, counts out. Each person has counts of their own, by track id, and so has each side
of an exercise that counts both by themselves. Time is that of the images' stamps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pose_node.exercise_definitions import Exercise, Goal, Triple
from pose_node.poses import Poses, Skeleton

Phase = Literal["unknown", "up", "falling", "down", "rising"]

_SECOND_NS = 1_000_000_000
_JUMP_NS = _SECOND_NS  # so far back goes a clock that was set, not a message that is late
_HANDOVER_NS = 2 * _SECOND_NS  # a tracker makes up its mind within that


@dataclass(frozen=True)
class PersonProgress:
    """How far one person is with one exercise on one side.

    Attributes:
        person: index in the `Poses` that were given.
        track_id: -1 for the only person in view, without tracking.
        exercise, side: of which exercise; left, right, both or either.
        repetitions: completed ones.
        phase: unknown before the first end was reached.
        angle: degrees, 0 to 180, of the first angle of the exercise: the mean of both sides, or
            that of the side that is further; NaN while it is not seen.
        progress: 0 at the start, 1 at the other end; the last one known.
        counted: a repetition was completed just now.
    """

    person: int
    track_id: int
    exercise: str
    side: str
    repetitions: int
    phase: Phase
    angle: float
    progress: float
    counted: bool


def joint_angle(first: Sequence[float], joint: Sequence[float], last: Sequence[float]) -> float:
    """The angle at a joint between its two neighbours, folded to 0 to 180 degrees.

    Args:
        first, joint, last: x, y and possibly more, pixels.

    Returns:
        Degrees; NaN if a point is not finite or a neighbour lies on the joint.
    """
    ax, ay = first[0] - joint[0], first[1] - joint[1]
    bx, by = last[0] - joint[0], last[1] - joint[1]
    if not all(map(math.isfinite, (ax, ay, bx, by))) or not (ax or ay) or not (bx or by):
        return math.nan
    return math.degrees(math.atan2(abs(ax * by - ay * bx), ax * bx + ay * by))


@dataclass
class RepetitionCounter:
    """The count of one person, one exercise and one side.

    Feed it the angles of each image; read the attributes.
    """

    exercise: Exercise
    repetitions: int = 0
    phase: Phase = "unknown"
    angle: float = math.nan
    progress: float = 0.0
    _at_start_ns: int | None = None  # last seen at the start; None: not yet
    _has_turned: bool = False  # since then at the other end

    def update(self, stamp_ns: int, sides: Sequence[Sequence[float]]) -> bool:
        """Take the angles of an image.

        Args:
            stamp_ns: capture time of the image.
            sides: for each side that is seen, all angles of the exercise in degrees; empty if what
                the exercise needs is not seen: everything waits.

        Returns:
            Whether a repetition was completed.
        """
        if not sides:
            self.angle = math.nan
            return False
        self._measure(sides)
        start: Goal = self.exercise.start
        turn: Goal = "down" if start == "up" else "up"
        for goal in (start, turn):
            if self._is_at(goal, sides):
                self.phase = goal
                return self._arrive(goal, stamp_ns)
        if self.phase in ("up", "down"):
            self.phase = "falling" if self.phase == "up" else "rising"
        return False

    def _measure(self, sides: Sequence[Sequence[float]]) -> None:
        exercise = self.exercise
        shares = [
            sum(a.progress(v, exercise.start) for a, v in zip(exercise.angles, side, strict=True))
            / len(side)
            for side in sides
        ]
        if exercise.side == "either":
            self.progress = max(shares)
            self.angle = sides[shares.index(self.progress)][0]
        else:
            self.progress = sum(shares) / len(shares)
            self.angle = sum(side[0] for side in sides) / len(sides)

    def _is_at(self, goal: Goal, sides: Sequence[Sequence[float]]) -> bool:
        """Whether an end is reached, or not left yet."""
        exercise = self.exercise
        slack = exercise.hysteresis if self.phase == goal else 0.0
        arrived = (
            all(a.is_at(goal, v, slack) for a, v in zip(exercise.angles, side, strict=True))
            for side in sides
        )
        # One leg may go down alone, but both have to come back.
        if exercise.side == "either" and goal != exercise.start:
            return any(arrived)
        return all(arrived)

    def _arrive(self, goal: Goal, stamp_ns: int) -> bool:
        if goal != self.exercise.start:
            self._has_turned = self._at_start_ns is not None
            return False
        since, self._at_start_ns = self._at_start_ns, stamp_ns
        turned, self._has_turned = self._has_turned, False
        if not turned or since is None:
            return False
        if stamp_ns - since < self.exercise.minimum_duration * _SECOND_NS:
            return False
        self.repetitions += 1
        return True


@dataclass
class _Person:
    """All counters of one person, by exercise and side, and when they were last in view."""

    counters: dict[tuple[str, str], RepetitionCounter]
    seen_ns: int = 0


class ExerciseCounter:
    """Counts exercises of everybody in view of one camera.

    Args:
        exercises: what to count.
        skeleton: of the poses.
        forget_after: seconds out of view after which the counts of a person are dropped.

    Attributes:
        unidentified: people of the last image that could not be counted: several in view, and
            nobody tracks them.

    Raises:
        ExerciseError: the skeleton lacks a keypoint of an exercise.
    """

    def __init__(
        self, exercises: Sequence[Exercise], skeleton: Skeleton, *, forget_after: float = 60.0
    ) -> None:
        self.unidentified = 0
        self._exercises = tuple(exercises)
        self._skeleton = skeleton
        self._joints = {exercise.name: exercise.joints(skeleton) for exercise in exercises}
        self.forget_after = forget_after
        self._people: dict[int, _Person] = {}
        self._now_ns = 0

    def update(self, stamp_ns: int, poses: Poses) -> list[PersonProgress]:
        """Take the people of an image.

        An image that is a little older than the one before is left out. One that is much older says
        that time began anew (a bag that loops, simulated time that restarts): so do all counts.

        Args:
            stamp_ns: capture time of the image.
            poses: people of the counter's skeleton. A track id of -1 stands for somebody who is not
                tracked: counted if nobody else is in view, else left out.

        Returns:
            Progress of each person, exercise and side, in this order.

        Raises:
            ValueError: the poses have another number of keypoints than the skeleton.
        """
        if poses.num_keypoints != self._skeleton.num_keypoints:
            raise ValueError(
                f"expected poses with the {self._skeleton.num_keypoints} keypoints of "
                f"{self._skeleton.name!r}, got {poses.num_keypoints}"
            )
        if stamp_ns < self._now_ns:
            if self._now_ns - stamp_ns < _JUMP_NS:
                return []
            self._people.clear()
        self._now_ns = stamp_ns
        self._forget(stamp_ns)
        ids = poses.ids.tolist()
        alone = len(ids) == 1
        self.unidentified = 0 if alone or any(i >= 0 for i in ids) else len(ids)
        progress: list[PersonProgress] = []
        for index, track_id in enumerate(max(-1, i) for i in ids):
            if track_id >= 0 or alone:
                person = self._person(track_id, alone)
                person.seen_ns = stamp_ns
                keypoints = poses.keypoints[index].tolist()
                progress += self._count(index, track_id, person, keypoints, stamp_ns)
        return progress

    def reset(self) -> int:
        """Start all counts anew; returns of how many people."""
        count = len(self._people)
        self._people.clear()
        return count

    def _forget(self, now_ns: int) -> None:
        oldest = now_ns - self.forget_after * _SECOND_NS
        self._people = {i: person for i, person in self._people.items() if person.seen_ns >= oldest}

    def _person(self, track_id: int, alone: bool) -> _Person:
        """The counts of somebody, new ones if they are new."""
        if track_id in self._people:
            return self._people[track_id]
        untracked = self._people.get(-1)
        if alone and untracked is not None and self._now_ns - untracked.seen_ns <= _HANDOVER_NS:
            # The tracker has just made up its mind about whom we have been counting.
            del self._people[-1]
            person = untracked
        else:
            person = _Person(
                {
                    (exercise.name, side): RepetitionCounter(exercise)
                    for exercise in self._exercises
                    for side in exercise.counted_sides()
                }
            )
        self._people[track_id] = person
        return person

    def _count(
        self,
        index: int,
        track_id: int,
        person: _Person,
        keypoints: Sequence[Sequence[float]],
        stamp_ns: int,
    ) -> Iterator[PersonProgress]:
        for (name, side), counter in person.counters.items():
            seen = _seen_angles(self._joints[name], keypoints, counter.exercise.minimum_score)
            counted = counter.update(stamp_ns, _of_side(side, seen))
            yield PersonProgress(
                person=index,
                track_id=track_id,
                exercise=name,
                side=side,
                repetitions=counter.repetitions,
                phase=counter.phase,
                angle=counter.angle,
                progress=counter.progress,
                counted=counted,
            )


def _seen_angles(
    joints: Mapping[str, Sequence[Triple]],
    keypoints: Sequence[Sequence[float]],
    minimum_score: float,
) -> dict[str, list[float]]:
    """All angles of each side that is seen as a whole, degrees."""
    seen = {}
    for side, triples in joints.items():
        angles = [joint_angle(*(keypoints[index] for index in triple)) for triple in triples]
        scores = [keypoints[index][2] for triple in triples for index in triple]
        # Not `score < minimum`: a NaN is no keypoint either.
        if all(score >= minimum_score for score in scores) and not any(map(math.isnan, angles)):
            seen[side] = angles
    return seen


def _of_side(side: str, seen: Mapping[str, list[float]]) -> list[list[float]]:
    """What a count of this side goes by; empty if it is not seen."""
    if side in ("left", "right"):
        return [seen[side]] if side in seen else []
    if side == "both" and len(seen) < 2:
        return []
    return list(seen.values())
