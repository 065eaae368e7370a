"""What an exercise is, and exercises from YAML files.

``config/exercises.yaml`` holds the built-in ones and says what each field means.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pose_node.errors import ExerciseError
from pose_node.installation import find_installed
from pose_node.plain_yaml import PlainYamlError, read_plain_yaml
from pose_node.poses import Skeleton

Goal = Literal["up", "down"]
Triple = tuple[int, int, int]

SIDES = ("left", "right", "both", "either", "each")
OPPOSITE = "opposite_"

BUILT_IN_FILE = "config/exercises.yaml"
MAX_FILE_BYTES = 64 * 1024

_MAX_DEPTH = 6  # the file, an exercise, its angles, one of them, its joints, a name
_MAX_EXERCISES = 100
_MAX_ANGLES = 10
_MAX_NAME = 100  # characters

_NUMBERS = {"hysteresis": (0.0, 90.0), "minimum_score": (0.0, 1.0), "minimum_duration": (0.0, 60.0)}
_NEEDED = ("side", "start", "angles")
_FIELDS = (*_NEEDED, *_NUMBERS)
_ANGLE_FIELDS = ("joints", "up", "down")


@dataclass(frozen=True)
class JointAngle:
    """An angle in the image and where its ends are.

    Attributes:
        joints: keypoints without their side: a neighbour, the joint, the other neighbour; after
            "opposite_" that of the other side.
        up, down: degrees, 0 to 180, from which on the joint is up or down; any may be the larger.
    """

    joints: tuple[str, str, str]
    up: float
    down: float

    def progress(self, angle: float, start: Goal) -> float:
        """How far an angle is from one end (0) to the other (1)."""
        share = (angle - self.down) / (self.up - self.down)
        return min(1.0, max(0.0, share if start == "down" else 1 - share))

    def is_at(self, goal: Goal, angle: float, slack: float) -> bool:
        """Whether an angle is at an end, or at most `slack` degrees before it."""
        end, other = (self.up, self.down) if goal == "up" else (self.down, self.up)
        return angle >= end - slack if end > other else angle <= end + slack


@dataclass(frozen=True)
class Exercise:
    """What is counted.

    Attributes:
        name: what messages call it.
        side: "left" or "right"; "both": together, one count, nothing while one is not seen;
            "either": one count, by any side that is seen; "each": two counts.
        start: the end at which a repetition begins and is completed.
        angles: all of them must reach an end.
        hysteresis: degrees that an angle must come back before the person has left an end.
        minimum_score: keypoints with a lower score are not seen.
        minimum_duration: seconds; what is faster is a wrong keypoint, not a repetition.
    """

    name: str
    side: str
    start: Goal
    angles: tuple[JointAngle, ...]
    hysteresis: float = 10.0
    minimum_score: float = 0.5
    minimum_duration: float = 0.4

    def counted_sides(self) -> tuple[str, ...]:
        """The sides that have a count: what `PersonProgress.side` may say."""
        return ("left", "right") if self.side == "each" else (self.side,)

    def joints(self, skeleton: Skeleton) -> dict[str, tuple[Triple, ...]]:
        """Keypoint indices of all angles, for the left and the right side.

        Raises:
            ExerciseError: the skeleton lacks a keypoint.
        """
        return {
            side: tuple(
                (
                    self._keypoint(angle.joints[0], side, skeleton),
                    self._keypoint(angle.joints[1], side, skeleton),
                    self._keypoint(angle.joints[2], side, skeleton),
                )
                for angle in self.angles
            )
            for side in ("left", "right")
            if self.side in (side, "both", "either", "each")
        }

    def _keypoint(self, joint: str, side: str, skeleton: Skeleton) -> int:
        wanted = side
        if joint.startswith(OPPOSITE):
            wanted = "right" if side == "left" else "left"
        base = joint.removeprefix(OPPOSITE)
        for name in (f"{wanted}_{base}", joint):  # the second for those in the middle, as "nose"
            if name in skeleton.keypoint_names:
                return skeleton.keypoint_names.index(name)
        raise ExerciseError(
            f"exercise {self.name!r} needs the keypoint {wanted}_{base} or {joint}, but the "
            f"skeleton {skeleton.name!r} has only {', '.join(skeleton.keypoint_names)}"
        )


def load_exercises(path: str | os.PathLike[str]) -> dict[str, Exercise]:
    """The exercises of a file, by name.

    Raises:
        ExerciseError: the file is not as it should be; the error names the file, the exercise and
            the field, what was expected and what came.
    """
    file = Path(path)
    try:
        content = read_plain_yaml(file, max_bytes=MAX_FILE_BYTES, max_depth=_MAX_DEPTH)
    except PlainYamlError as error:
        raise ExerciseError(f"{file}: {error}") from error
    reader = _Reader(str(file))
    if not isinstance(content, dict) or not 0 < len(content) <= _MAX_EXERCISES:
        raise reader.error(
            "the file", f"1 to {_MAX_EXERCISES} exercises, each a name and its fields", content
        )
    return {reader.name(name): reader.exercise(name, value) for name, value in content.items()}


def built_in_exercises() -> dict[str, Exercise]:
    """The exercises that come with the package, by name.

    Raises:
        ExerciseError: their file is not installed.
    """
    path = find_installed(BUILT_IN_FILE)
    if path is None:
        raise ExerciseError(
            f"{BUILT_IN_FILE} of pose_node is not installed: install the package again"
        )
    return load_exercises(path)


def choose_exercises(names: Sequence[str], definitions: str = "") -> tuple[Exercise, ...]:
    """Exercises by name.

    Args:
        names: of built-in exercises or of those in the file.
        definitions: a YAML file with more, or other ones of the same name; "" for none.

    Raises:
        ExerciseError: there is no such exercise, or the file is wrong.
    """
    known = built_in_exercises()
    if definitions:
        known |= load_exercises(Path(definitions).expanduser())
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ExerciseError(
            f"expected exercises among {', '.join(sorted(known))}, got {', '.join(unknown)}; "
            "define others in a YAML file and name it in `definitions`"
        )
    return tuple(known[name] for name in dict.fromkeys(names))


class _Reader:
    """Makes exercises of the content of a file, field by field, each with its own error."""

    def __init__(self, file: str) -> None:
        self._file = file

    def error(self, place: str, expected: str, got: object) -> ExerciseError:
        """An error that names file and place."""
        text = repr(got)
        if len(text) > 80:
            text = f"{text[:80]}..."
        return ExerciseError(f"{self._file}: {place}: expected {expected}, got {text}")

    def name(self, value: object) -> str:
        """A name; also of keypoints."""
        if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME or not value.isprintable():
            raise self.error("a name", f"1 to {_MAX_NAME} characters", value)
        return value

    def exercise(self, name: str, content: object) -> Exercise:
        """One exercise."""
        fields = self._mapping(name, content, _NEEDED, _FIELDS)
        if fields["side"] not in SIDES:
            raise self.error(f"{name}: side", ", ".join(SIDES), fields["side"])
        if fields["start"] not in ("up", "down"):
            raise self.error(f"{name}: start", "up or down", fields["start"])
        numbers = {
            field: self._number(f"{name}: {field}", fields[field], *limits)
            for field, limits in _NUMBERS.items()
            if field in fields
        }
        angles = fields["angles"]
        if not isinstance(angles, list) or not 1 <= len(angles) <= _MAX_ANGLES:
            raise self.error(f"{name}: angles", f"a list of 1 to {_MAX_ANGLES} angles", angles)
        exercise = Exercise(
            name=name,
            side=fields["side"],
            start=fields["start"],
            angles=tuple(
                self._angle(f"{name}: angles[{index}]", angle) for index, angle in enumerate(angles)
            ),
            **numbers,
        )
        smallest = min(abs(angle.up - angle.down) for angle in exercise.angles)
        if exercise.hysteresis >= smallest:
            raise self.error(
                f"{name}: hysteresis",
                f"less than the {smallest:g} degrees between up and down",
                exercise.hysteresis,
            )
        return exercise

    def _angle(self, place: str, content: object) -> JointAngle:
        fields = self._mapping(place, content, _ANGLE_FIELDS, _ANGLE_FIELDS)
        joints = fields["joints"]
        if not isinstance(joints, list) or len(joints) != 3:
            raise self.error(
                f"{place}: joints", "three names, the joint itself in the middle", joints
            )
        first, joint, last = (self._joint(f"{place}: joints", value) for value in joints)
        up, down = (self._number(f"{place}: {end}", fields[end], 0, 180) for end in ("up", "down"))
        if up == down:
            raise self.error(f"{place}: down", "another angle than that of up", down)
        return JointAngle((first, joint, last), up, down)

    def _joint(self, place: str, value: object) -> str:
        name = self.name(value) if isinstance(value, str) else ""
        if not name or name.startswith(("left_", "right_")):
            raise self.error(
                place, "names of keypoints without left_ and right_, such as elbow", value
            )
        return name

    def _mapping(
        self, place: str, content: object, needed: Sequence[str], known: Sequence[str]
    ) -> Mapping[str, Any]:
        if not isinstance(content, dict):
            raise self.error(place, f"the fields {', '.join(known)}", content)
        unknown = [str(key)[:40] for key in content if key not in known]
        if unknown:
            raise self.error(place, f"only the fields {', '.join(known)}", unknown)
        for field in needed:
            if field not in content:
                raise self.error(f"{place}: {field}", "this field", None)
        return content

    def _number(self, place: str, value: object, low: float, high: float) -> float:
        # bool is an int to Python.
        if type(value) not in (int, float) or not low <= value <= high:  # type: ignore[operator]
            raise self.error(place, f"a number from {low:g} to {high:g}", value)
        return float(value)  # type: ignore[arg-type]
