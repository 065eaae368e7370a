from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from pose_node.errors import OutputError
from pose_node.poses import Poses
from pose_node.prediction.outputs import CocoResults, Csv, JsonLines, Output
from tests.prediction.conftest import TRIO, FakeRecording, make_recorded, people_in


def fill(output: Output, *sources: str) -> list[Path]:
    """Four frames, nobody in the first."""
    output.begin(FakeRecording([]))
    for index in range(4):
        source = sources[index] if sources else "a.mp4"
        frame = make_recorded(index, source=source)
        output.write(frame, people_in(frame.image))
    output.end(complete=True)
    return output.close()


def test_a_line_for_each_frame(tmp_path: Path) -> None:
    path = tmp_path / "poses.jsonl"
    output = JsonLines(path)
    assert not path.exists()
    assert fill(output) == [path]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["source"], line["frame"], line["stamp_ns"]) for line in lines] == [
        ("a.mp4", index, index * 100_000_000) for index in range(4)
    ]
    assert lines[0]["people"] == []
    assert (lines[2]["width"], lines[2]["height"], lines[2]["topic"]) == (32, 24, "")
    assert lines[2]["people"] == [
        {
            "id": -1,
            "score": 0.07812,
            "box": [1, 2, 30, 20],
            "keypoints": [[20.25, 5, 0.9], [10, 20, 0.8], [12, 12, 0.1]],
        }
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["poses.jsonl"]


def test_what_is_no_number_is_null(tmp_path: Path) -> None:
    output = JsonLines(tmp_path / "poses.jsonl")
    keypoints = [[[float("inf"), float("nan"), 0.5]] * 3]
    output.write(make_recorded(), Poses.from_arrays([[0, 0, 1, 1]], [0.5], keypoints))
    output.close()
    (line,) = (tmp_path / "poses.jsonl").read_text().splitlines()
    assert json.loads(line)["people"][0]["keypoints"][0] == [None, None, 0.5]


def test_a_row_for_each_person(tmp_path: Path) -> None:
    fill(Csv(tmp_path / "poses.csv", TRIO))
    with (tmp_path / "poses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == ["1", "2", "3"]
    assert (rows[1]["nose_x"], rows[1]["right_hand_score"], rows[1]["x_max"]) == (
        "12.0",
        "0.8",
        "30.0",
    )
    assert rows[1]["id"] == "-1"


def test_coco_results_with_numbers_as_names(tmp_path: Path) -> None:
    names = [f"val/{number:012}.jpg" for number in (7, 9, 139, 5)]
    files = fill(CocoResults(tmp_path / "coco.json", numbered=True), *names)
    assert [file.name for file in files] == ["coco.json", "coco_images.json"]
    rows = json.loads(files[0].read_text())
    assert [row["image_id"] for row in rows] == [9, 139, 5]
    assert rows[1]["keypoints"] == [20.25, 5, 0.9, 10, 20, 0.8, 12, 12, 0.1]
    images = json.loads(files[1].read_text())
    assert images[0] == {"id": 7, "file_name": "000000000007.jpg", "width": 32, "height": 24}


def test_coco_results_of_frames_are_counted(tmp_path: Path) -> None:
    files = fill(CocoResults(tmp_path / "coco.json", numbered=False))
    assert [row["image_id"] for row in json.loads(files[0].read_text())] == [2, 3, 4]
    assert [image["frame"] for image in json.loads(files[1].read_text())] == [0, 1, 2, 3]


def test_nothing_at_all_is_an_empty_list(tmp_path: Path) -> None:
    files = CocoResults(tmp_path / "coco.json", numbered=False).close()
    assert [json.loads(file.read_text()) for file in files] == [[], []]


def test_what_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    for output in (
        JsonLines(tmp_path / "a"),
        Csv(tmp_path / "b", TRIO),
        CocoResults(tmp_path / "c.json", numbered=False),
    ):
        output.write(make_recorded(1), people_in(make_recorded(1).image))
        output.abort()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*no/poses\.jsonl: No such file"):
        JsonLines(tmp_path / "no/poses.jsonl")
    output = JsonLines(tmp_path / "poses.jsonl")
    (tmp_path / "poses.jsonl").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*: Is a directory"):
        output.close()


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    class Full:
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    output = JsonLines(tmp_path / "poses.jsonl")
    file, output._file._file = output._file._file, Full()  # type: ignore[assignment]
    try:
        with pytest.raises(OutputError, match="No space left on device"):
            output.write(make_recorded(), Poses.empty(3))
    finally:
        output._file._file = file
        output.abort()
