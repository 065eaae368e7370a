"""Reading exercises from YAML: the built-in file, and every error with file, exercise and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from pose_node import COCO17, exercise_definitions
from pose_node.errors import ExerciseError
from pose_node.exercise_definitions import (
    MAX_FILE_BYTES,
    Exercise,
    JointAngle,
    built_in_exercises,
    choose_exercises,
    load_exercises,
)

GOOD = """
lunge:
  side: each
  start: up
  angles:
    - {joints: [hip, knee, ankle], up: 165, down: 115}
  hysteresis: 8
  minimum_score: 0.3
  minimum_duration: 1
"""


def write(folder: Path, content: str) -> Path:
    path = folder / "my.yaml"
    path.write_text(content)
    return path


def test_built_in_exercises_fit_the_coco_skeleton() -> None:
    exercises = built_in_exercises()
    assert list(exercises) == ["bicep_curl", "squat", "shoulder_press", "jumping_jack"]
    for exercise in exercises.values():
        for triples in exercise.joints(COCO17).values():
            assert len(triples) == len(exercise.angles)


def test_file_with_all_fields(tmp_path: Path) -> None:
    assert load_exercises(write(tmp_path, GOOD)) == {
        "lunge": Exercise(
            name="lunge",
            side="each",
            start="up",
            angles=(JointAngle(("hip", "knee", "ankle"), 165.0, 115.0),),
            hysteresis=8.0,
            minimum_score=0.3,
            minimum_duration=1.0,
        )
    }


def test_own_definitions_come_before_built_in_ones(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + GOOD.replace("lunge", "squat"))
    names = ["bicep_curl", "squat", "lunge", "squat"]
    chosen = choose_exercises(names, str(path))
    assert [exercise.name for exercise in chosen] == ["bicep_curl", "squat", "lunge"]
    assert [exercise.hysteresis for exercise in chosen] == [10, 8, 8]


def test_unknown_exercise() -> None:
    with pytest.raises(ExerciseError, match=r"among bicep_curl, .*, squat, got lunge, x; define"):
        choose_exercises(["squat", "lunge", "x"])


def test_built_in_file_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exercise_definitions, "find_installed", lambda _: None)
    with pytest.raises(ExerciseError, match=r"config/exercises\.yaml .* is not installed"):
        built_in_exercises()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (GOOD, "", "the file: expected 1 to 100 exercises, each a name and its fields, got None"),
        (GOOD, "[lunge]", r"the file: expected 1 to 100 exercises, .*, got \['lunge'\]"),
        (GOOD, "lunge: 3", "lunge: expected the fields side, start, .*, got 3"),
        ("lunge", "7", "a name: expected 1 to 100 characters, got 7"),
        ("each", "middle", "lunge: side: expected left, right, both, either, each, got 'middle'"),
        ("each", "[left]", r"lunge: side: expected left, .*, got \['left'\]"),
        ("start: up", "start: top", "lunge: start: expected up or down, got 'top'"),
        ("side: each", "", "lunge: side: expected this field, got None"),
        ("hysteresis", "histeresis", r"only the fields side, .* got \['histeresis'\]"),
        ("hysteresis: 8", "hysteresis: -1", "lunge: hysteresis: expected a number from 0 to 90"),
        ("hysteresis: 8", "hysteresis: 50", "less than the 50 degrees between up and down, got 50"),
        ("score: 0.3", "score: 30", "lunge: minimum_score: expected a number from 0 to 1, got 30"),
        ("score: 0.3", "score: true", "lunge: minimum_score: expected a number .*, got True"),
        ("duration: 1", "duration: .nan", "minimum_duration: expected a number .*, got nan"),
        ("up: 165", "up: high", r"lunge: angles\[0\]: up: expected a number from 0 to 180, got 'h"),
        ("up: 165", "up: 181", r"lunge: angles\[0\]: up: expected a number from 0 to 180, got 181"),
        ("up: 165", "up: 115", r"angles\[0\]: down: expected another angle than that of up"),
        ("up: 165, ", "", r"lunge: angles\[0\]: up: expected this field, got None"),
        ("{joints: [hip, knee, ankle], up: 165, down: 115}", "1", r"angles\[0\]: expected the fie"),
        ("    - {joints: [hip, knee, ankle], up: 165, down: 115}", "    []", "a list of 1 to 10 a"),
        ("[hip, knee, ankle]", "[hip, knee]", r"angles\[0\]: joints: expected three names, "),
        ("[hip, knee", "[left_hip, knee", r"joints: expected names of keypoints without left_ and"),
        (
            "[hip, knee",
            "[11, knee",
            r"angles\[0\]: joints: expected names .*, got 11",
        ),
        ("lunge:", "lunge: &x", r"references \(\*x\) are not allowed"),
        ("side: each", "side: each\n  side: left", "'side' stands here twice"),
        ("[hip, knee, ankle]", "[[[[hip]]]]", "nested more than 6 deep"),
        ("lunge", "a" * MAX_FILE_BYTES, f"expected at most {MAX_FILE_BYTES} bytes, got more"),
    ],
)
def test_wrong_files(tmp_path: Path, old: str, new: str, reason: str) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    if "&x" in new:
        path.write_text(path.read_text() + "again: *x\n")
    with pytest.raises(ExerciseError, match=reason) as caught:
        load_exercises(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < len(str(path)) + 500


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ExerciseError, match="cannot be read: No such file"):
        load_exercises(tmp_path / "none.yaml")
