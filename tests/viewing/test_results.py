"""Results read back, and their images found again."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pose_node.errors import SourceError
from pose_node.poses import COCO17, Poses, Skeleton
from pose_node.prediction.frames import RecordedFrame
from pose_node.prediction.outputs import frame_as_json
from pose_node.prediction.parquet_output import Parquet
from pose_node.source_names import shown_name
from pose_node.viewing.results import CameraNames, FrameImages, ResultFrame, Results

TRIO = Skeleton("trio", ("left_hand", "right_hand", "nose"), ((0, 2),), (1, 0, 2), (0.1,) * 3)
PEOPLE = Poses.from_arrays(
    [[1, 2, 30, 20]], [0.5], [[(1.25, 2, 0.75), (3, np.nan, 0), (5, 6, 1)]], [4]
)


def make_recorded(index: int = 3, **changes: Any) -> RecordedFrame:
    image = np.zeros((24, 32, 3), np.uint8)
    values = {"source": "a.mp4", "topic": "", "stamp_ns": 100, "image": image}
    return RecordedFrame(**{**values, "index": index, **changes})


def make_line(poses: Poses = PEOPLE, **changes: Any) -> str:
    return json.dumps(frame_as_json(make_recorded(**changes), poses))


def make_result(source: str | Path, index: int = 0, stamp_ns: int | None = 0) -> ResultFrame:
    return ResultFrame(str(source), "", index, stamp_ns, (32, 24), PEOPLE)


def write_run(folder: Path, *lines: str, skeleton: Any = None, topics: Any = ()) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "poses.jsonl").write_text("".join(f"{line}\n" for line in lines))
    summary = {"skeleton": skeleton, "settings": {"topics": topics}}
    (folder / "run.json").write_text(json.dumps(summary))
    return folder


def write_video(path: Path, frames: int) -> Path:
    """Frames of which each one is brighter than the one before."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 24))
    for index in range(frames):
        writer.write(np.full((24, 32, 3), 20 * index, np.uint8))
    writer.release()
    return path


# --- Results ------------------------------------------------------------------------------------


def test_people_come_back_as_they_were_written(tmp_path: Path) -> None:
    run = write_run(tmp_path, make_line(), make_line(Poses.empty(3), index=4, stamp_ns=None))
    (first, skeleton), (second, _) = Results(run)
    assert (first.source, first.topic, first.index, first.stamp_ns) == ("a.mp4", "", 3, 100)
    assert first.size == (32, 24)
    for name in ("boxes_xyxy", "scores", "keypoints", "ids"):
        np.testing.assert_array_equal(getattr(first.poses, name), getattr(PEOPLE, name))
    assert skeleton == Skeleton.for_keypoints(3)
    assert second.stamp_ns is None
    assert second.poses.keypoints.shape == (0, 3, 3)


def test_the_skeleton_is_that_of_the_run(tmp_path: Path) -> None:
    saved = {"name": "trio", "keypoint_names": TRIO.keypoint_names, "edges": TRIO.edges}
    ((_, skeleton),) = Results(write_run(tmp_path, make_line(), skeleton=saved))
    assert (skeleton.name, skeleton.edges) == ("trio", TRIO.edges)
    ((_, skeleton),) = Results(tmp_path / "poses.jsonl", TRIO)
    assert skeleton is TRIO


def test_the_standard_skeleton_is_known(tmp_path: Path) -> None:
    saved = {"name": "coco17", "keypoint_names": COCO17.keypoint_names, "edges": []}
    ((_, skeleton),) = Results(write_run(tmp_path, make_line(Poses.empty(17)), skeleton=saved))
    assert skeleton is COCO17


@pytest.mark.parametrize("skeleton", [7, {}, {"keypoint_names": ["a"], "edges": [["x"]]}])
def test_a_summary_that_makes_no_sense_is_passed_over(tmp_path: Path, skeleton: Any) -> None:
    ((_, found),) = Results(write_run(tmp_path, make_line(), skeleton=skeleton))
    assert found == Skeleton.for_keypoints(3)


@pytest.mark.parametrize("content", [None, b"{", b"[]"])
def test_results_without_a_summary(tmp_path: Path, content: bytes | None) -> None:
    run = write_run(tmp_path, make_line())
    (run / "run.json").unlink()
    if content is not None:
        (run / "run.json").write_bytes(content)
    assert len(list(Results(run))) == 1


def test_the_topics_of_the_run(tmp_path: Path) -> None:
    assert Results(write_run(tmp_path, topics=["/a"])).topics == ("/a",)


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is missing")
    frames = [(make_recorded(3), PEOPLE), (make_recorded(4, stamp_ns=None), Poses.empty(3))]
    output = Parquet(tmp_path / "poses.parquet")
    for frame, poses in frames:
        output.write(frame, poses)
    output.close()
    found = [frame for frame, _ in Results(tmp_path)]
    lines = [json.dumps(frame_as_json(*pair)) for pair in frames]
    expected = [frame for frame, _ in Results(write_run(tmp_path / "json", *lines))]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.poses.keypoints, other.poses.keypoints)
        assert (one.source, one.index, one.stamp_ns) == (other.source, other.index, other.stamp_ns)


def test_parquet_that_is_none_or_without_pyarrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is missing")
    path = tmp_path / "a.parquet"
    path.write_bytes(b"no parquet")
    with pytest.raises(SourceError, match=r"a\.parquet, line 1 is no result"):
        list(Results(path))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(SourceError, match="pip install pyarrow"):
        list(Results(path))


@pytest.mark.parametrize(
    "line", ["{", "null", "[]", "{}", '{"people": 3}', make_line(Poses.empty(3))[:-1]]
)
def test_a_line_that_is_no_result(tmp_path: Path, line: str) -> None:
    with pytest.raises(SourceError, match=r"poses\.jsonl, line 2 is no result"):
        list(Results(write_run(tmp_path, make_line(), line)))


def test_people_of_another_skeleton(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="line 1 is no result"):
        list(Results(write_run(tmp_path, make_line()), COCO17))


def test_no_results(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"poses\.jsonl does not exist, expected the folder"):
        Results(tmp_path)


# --- Images -------------------------------------------------------------------------------------


def test_images_of_a_video_in_order(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.avi", 8)
    images = FrameImages([])
    found = [images.image(make_result(video, index)) for index in (1, 4, 5, 9)]
    assert [None if item is None else round(item[0].mean() / 20) for item in found] == [
        *(1, 4, 5, None)
    ]
    assert images.missing == {}
    images.close()


def test_an_image_that_is_not_there_costs_no_other(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.avi", 4)
    images = FrameImages([])
    assert images.image(make_result(video, 2)) is not None
    assert images.image(make_result(video, 1)) is None  # out of order
    assert images.image(make_result(video, 3)) is not None
    images.close()


def test_sources_are_looked_for_in_folders_too(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    cv2.imwrite(str(archive / "b.png"), np.full((4, 5, 3), 77, np.uint8))
    write_video(archive / "a.avi", 2)
    images = FrameImages([tmp_path / "nowhere", archive])
    for source in ("lost/b.png", "b.png"):
        found = images.image(make_result(source, 5, None))
        assert found is not None
        assert found[0].shape == (4, 5, 3)
        assert found[1] == "bgr"
    assert images.image(make_result("/lost/a.avi")) is not None
    images.close()


def test_files_whose_names_are_no_utf8_are_found(tmp_path: Path) -> None:
    name = os.fsdecode(b"x\xe9.avi")
    os.replace(write_video(tmp_path / "x.avi", 2), tmp_path / name)
    images = FrameImages([tmp_path])
    assert images.image(make_result(shown_name(name))) is not None
    images.close()


def test_what_cannot_be_found_is_said_once_for_each_source(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    images = FrameImages([])
    for source in ("gone.avi", "gone.avi", "0", "rtsp://camera/1", str(tmp_path / "bad.png")):
        assert images.image(make_result(source)) is None
    images.close()
    assert list(images.missing) == ["gone.avi", "0", "rtsp://camera/1", str(tmp_path / "bad.png")]
    assert "--images DIR" in images.missing["gone.avi"]
    assert "its images are gone" in images.missing["0"]


# --- Names --------------------------------------------------------------------------------------


def test_names_are_short_and_no_two_alike() -> None:
    names = CameraNames()
    frames = [
        *(make_result("one/a.mp4"), make_result("two/a.mp4"), make_result("one/a.mp4")),
        *(make_result("night/1.jpg", 0, None), make_result("night/2.jpg", 1, None)),
        make_result("3.jpg", 0, None),
        ResultFrame("bag", "/front/image", 0, 0, (1, 1), PEOPLE),
    ]
    assert [names.name(frame) for frame in frames] == [
        *("a", "a_2", "a", "night", "night", "images", "bag_front_image")
    ]
