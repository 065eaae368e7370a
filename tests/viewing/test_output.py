"""A recording as an output of predictions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pose_node import cli
from pose_node.poses import Poses, Skeleton
from pose_node.prediction.frames import RecordedFrame

TRIO = Skeleton("trio", ("left_hand", "right_hand", "nose"), ((0, 2),), (1, 0, 2), (0.1,) * 3)


def make_output(path: Path) -> Any:
    from pose_node.viewing.output import RerunOutput

    return RerunOutput(path, TRIO)


def test_frames_of_several_sources(tmp_path: Path, read_back: Callable[[Path], Any]) -> None:
    output = make_output(tmp_path / "view.rrd")
    image = np.zeros((24, 32, 3), np.uint8)
    output.begin(None)
    for index in range(3):
        output.write(RecordedFrame("a.mp4", "", index, index * 50, image), Poses.empty(3))
    output.end(complete=True)
    output.write(RecordedFrame("night/1.jpg", "", 0, None, image), Poses.empty(3))
    assert output.close() == [tmp_path / "view.rrd"]
    found = read_back(tmp_path / "view.rrd")
    assert [row["time"] for row in found["/a/image"]] == [0, 50, 100]
    assert [row["frame"] for row in found["/night/image"]] == [0]
    assert found["/night/file"][0]["TextDocument:text"] == ["night/1.jpg"]


def test_an_aborted_one_leaves_nothing(tmp_path: Path, read_back: Callable[[Path], Any]) -> None:
    make_output(tmp_path / "view.rrd").abort()
    assert list(tmp_path.iterdir()) == []


def test_beside_other_results(
    tmp_path: Path, shared: Path, read_back: Callable[[Path], Any]
) -> None:
    images = tmp_path / "night"
    images.mkdir()
    for index in range(3):
        cv2.imwrite(str(images / f"{index}.png"), np.full((48, 64, 3), 60 * index, np.uint8))
    model = str(shared / "fixtures/ul_yolo11_tiny_pose.pt")
    settings = ["--device", "cpu", "--image-size", "64", "--score-threshold", "0.001"]
    output = tmp_path / "out"
    arguments = ["--model", model, *settings, "--rerun", "--output", str(output)]
    assert cli.main(["predict", str(images), *arguments]) == 0
    found = read_back(output / "view.rrd")
    assert len(found["/night/image"]) == 3
    lines = (output / "poses.jsonl").read_text().splitlines()
    expected = [len(json.loads(line)["people"]) for line in lines]
    assert [row["Scalars:scalars"] for row in found["/night/people"]] == [[n] for n in expected]
    assert sum(expected) > 0
    assert "view.rrd" in json.loads((output / "run.json").read_text())["files"]
