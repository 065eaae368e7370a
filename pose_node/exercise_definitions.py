"""Exercises from YAML files.

``config/exercises.yaml`` holds the built-in ones and says what each field means.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pose_node.errors import ExerciseError
from pose_node.exercise import SIDES, Exercise, JointAngle
from pose_node.installation import find_installed
from pose_node.plain_yaml import PlainYamlError, read_plain_yaml

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
