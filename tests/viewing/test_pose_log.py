"""Frames in a recording, read back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose_node.depth import Poses3D
from pose_node.poses import Poses, Skeleton
from pose_node.viewing.destinations import File
from pose_node.viewing.pose_log import PoseLog, ViewedFrame

pytestmark = pytest.mark.usefixtures("sdk")

TRIO = Skeleton("trio", ("left_hand", "right_hand", "nose"), ((0, 2),), (1, 0, 2), (0.1,) * 3)
NOW = 1_700_000_000_123_456_789


def make_people(*ids: int) -> Poses:
    count = len(ids)
    keypoints = np.arange(9 * count, dtype=np.float32).reshape(count, 3, 3)
    keypoints[:, :, 2] = 0.9
    return Poses.from_arrays(np.ones((count, 4)), np.full(count, 0.75), keypoints, ids)


def make_viewed(**changes: Any) -> ViewedFrame:
    values: dict[str, Any] = {"camera": "front", "index": 7, "stamp_ns": NOW}
    return ViewedFrame(**{**values, "poses": make_people(3), **changes})


def write(path: Path, *frames: ViewedFrame) -> None:
    file = File(path)
    log = PoseLog(file.stream)
    for frame in frames:
        log.write(frame, TRIO)
    assert log.num_frames == len(frames)
    log.finish()
    file.close()


def test_everything_of_a_frame(tmp_path: Path, read_back: Callable[[Path], Any]) -> None:
    poses = make_people(3, -1)
    frame = make_viewed(
        poses=poses,
        image=np.zeros((24, 32, 3), np.uint8),
        people_3d=Poses3D.from_points(np.ones((2, 3, 3)), poses),
        file="a.jpg",
    )
    write(tmp_path / "a.rrd", frame)
    found = read_back(tmp_path / "a.rrd")
    assert set(found) - {"/__properties"} == {
        *("/front", "/front/image", "/front/image/boxes", "/front/image/keypoints"),
        *("/front/space", "/front/space/keypoints", "/front/file", "/front/people"),
        *("/front/scores/track_3", "/front/scores/untracked"),
    }
    (keypoints,) = found["/front/image/keypoints"]
    assert keypoints["frame"] == 7
    assert keypoints["stamp"] == NOW
    assert keypoints["Points2D:positions"] == poses.keypoints[:, :, :2].reshape(-1, 2).tolist()
    assert keypoints["Points2D:keypoint_ids"] == [0, 1, 2, 0, 1, 2]
    (context,) = found["/front"]
    classes = [entry["class_id"] for entry in context["AnnotationContext:context"][0]]
    assert set(keypoints["Points2D:class_ids"]) <= set(classes)
    assert bytes(found["/front/image"][0]["EncodedImage:blob"][0][:2]) == b"\xff\xd8"  # a JPEG
    assert len(found["/front/space/keypoints"][0]["Points3D:positions"]) == 6
    assert found["/front/people"][0]["Scalars:scalars"] == [2]
    assert found["/front/file"][0]["TextDocument:text"] == ["a.jpg"]


def test_scores_over_time_end_where_a_track_ends(
    tmp_path: Path, read_back: Callable[[Path], Any]
) -> None:
    frames = [
        make_viewed(index=index, stamp_ns=index * 100, poses=make_people(*ids))
        for index, ids in enumerate([(1, 2), (2,), (), (2,)])
    ]
    write(tmp_path / "a.rrd", *frames)
    found = read_back(tmp_path / "a.rrd")
    score = [pytest.approx(0.75)]
    curves = {}
    for track in (1, 2):
        rows = [row for row in found[f"/front/scores/track_{track}"] if "frame" in row]
        curves[track] = {
            row["frame"]: row.get("Scalars:scalars")
            or bool(row.get("Clear:is_recursive") == [True])
            for row in rows
        }
    ended = False  # cleared
    assert curves == {1: {0: score, 1: ended}, 2: {0: score, 1: score, 2: ended, 3: score}}
    assert [row["Scalars:scalars"] for row in found["/front/people"]] == [[2], [1], [0], [1]]
    # An empty frame takes the people of the one before away.
    assert found["/front/image/keypoints"][2]["Points2D:positions"] == []


def test_times_since_the_start_are_no_dates(
    tmp_path: Path, read_back: Callable[[Path], Any]
) -> None:
    write(tmp_path / "a.rrd", make_viewed(stamp_ns=1_500_000_001))
    (row,) = read_back(tmp_path / "a.rrd")["/front/people"]
    assert row["time"] == 1_500_000_001
    assert "stamp" not in row


def test_images_have_numbers_only_and_each_camera_counts_its_own(
    tmp_path: Path, read_back: Callable[[Path], Any]
) -> None:
    image = make_viewed(index=0, stamp_ns=None)
    write(tmp_path / "a.rrd", image, image, replace(image, index=9), replace(image, camera=""))
    found = read_back(tmp_path / "a.rrd")
    assert [row["frame"] for row in found["/front/people"]] == [0, 1, 9]
    assert [row["frame"] for row in found["/camera/people"]] == [0]
    assert not {"time", "stamp"} & set(found["/front/people"][0])


def test_more_people_get_more_classes(tmp_path: Path, read_back: Callable[[Path], Any]) -> None:
    write(tmp_path / "a.rrd", make_viewed(), make_viewed(index=8, poses=make_people(*range(90))))
    found = read_back(tmp_path / "a.rrd")
    contexts = [row["AnnotationContext:context"][0] for row in found["/front"]]
    classes = {entry["class_id"] for context in contexts for entry in context}
    used = found["/front/image/boxes"][-1]["Boxes2D:class_ids"]
    assert len(set(used)) == 90
    assert set(used) <= classes


def test_another_skeleton_than_the_people_have(tmp_path: Path) -> None:
    file = File(tmp_path / "a.rrd")
    with pytest.raises(ValueError, match="'trio' has 3 keypoints, the people have 17"):
        PoseLog(file.stream).write(make_viewed(poses=Poses.empty(17)), TRIO)
    file.abort()
    assert list(tmp_path.iterdir()) == []
