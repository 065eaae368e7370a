from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose_node.errors import SourceError
from pose_node.prediction import recordings
from pose_node.prediction.frames import Failure, RecordedFrame, Recording, Selection
from pose_node.prediction.recordings import expand, expand_all, is_live, open_recording
from pose_node.sources import open_source
from tests.prediction.conftest import write_bag

ALL = Selection()


def read(recording: Recording) -> tuple[list[RecordedFrame], list[Failure]]:
    items = list(recording)
    frames = [item for item in items if isinstance(item, RecordedFrame)]
    return frames, [item for item in items if isinstance(item, Failure)]


def test_a_folder_of_images(images: Path) -> None:
    recording = open_recording(str(images), ALL)
    assert (recording.kind, recording.frame_count) == ("images", 4)
    frames, failures = read(recording)
    assert [(Path(frame.source).name, frame.index) for frame in frames] == [
        *(("001.png", 0), ("002.png", 1), ("003.png", 2))
    ]
    assert frames[0].stamp_ns is None
    assert [failure.source for failure in failures] == [str(images / "004.png")]
    assert "no image format known here" in failures[0].reason


def test_a_range_of_images_and_one_image(images: Path) -> None:
    frames, _ = read(open_recording(str(images / "*.png"), Selection.parse("1:", every=2)))
    assert [frame.index for frame in frames] == [1]
    frames, _ = read(open_recording(str(images / "*.png"), Selection.parse(":2")))
    assert [frame.index for frame in frames] == [0, 1]
    frames, _ = read(open_recording(str(images / "002.png"), ALL))
    assert [frame.source for frame in frames] == [str(images / "002.png")]


def test_images_have_no_times(images: Path) -> None:
    with pytest.raises(SourceError, match="images, which have no times"):
        open_recording(str(images), Selection.parse("1s:"))


def test_odd_images_are_read_as_they_are_shown(shared: Path) -> None:
    frames, failures = read(open_recording(str(shared / "data/odd"), ALL))
    assert len(failures) == 3
    assert len(frames) == 10
    shapes = {Path(frame.source).stem: frame.image.shape[:2] for frame in frames}
    assert shapes["785_exif_orientation_6"] == (425, 640)
    assert shapes["785_huge_8000x5312"] == (5312, 8000)
    plain = {Path(frame.source).stem: frame.image.astype(int) for frame in frames}
    for name in ("785_gray", "785_16bit_gray"):
        assert abs(plain[name] - plain["785_cmyk"].mean(2, keepdims=True)).mean() < 20


def test_a_video_with_its_times(video: Path) -> None:
    recording = open_recording(str(video), Selection.parse("2:7", every=2))
    assert (recording.kind, recording.frame_count, recording.fps) == ("video", 3, 5)
    frames, failures = read(recording)
    assert [(frame.index, frame.stamp_ns) for frame in frames] == [
        *((2, 200_000_000), (4, 400_000_000), (6, 600_000_000))
    ]
    assert failures == []
    recording.close()


def test_a_video_that_ends_early_is_a_failure(video: Path) -> None:
    content = video.read_bytes()
    video.write_bytes(content[: content.rindex(b"00dc", 0, content.index(b"idx1")) - 1500])
    frames, failures = read(open_recording(str(video), ALL))
    assert 0 < len(frames) < 9
    assert [failure.source for failure in failures] == [str(video)]
    assert "of 10 frames, it may be damaged" in failures[0].reason


def turn(path: Path) -> None:
    """Write into an MP4's track header that its picture is to be turned by 90 degrees."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    unit = 1 << 16
    struct.pack_into(">9i", content, start, *(0, unit, 0, -unit, 0, 0, 0, 0, 1 << 30))
    path.write_bytes(content)


def test_a_turned_video_is_upright(tmp_path: Path) -> None:
    import cv2

    path = tmp_path / "turned.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 32))
    for _ in range(3):
        picture = np.zeros((32, 64, 3), np.uint8)
        picture[:, :16] = 255  # the left edge becomes the top one
        writer.write(picture)
    writer.release()
    turn(path)
    frames, _ = read(open_recording(str(path), ALL))
    assert frames[0].image.shape == (64, 32, 3)
    assert frames[0].image[:8].mean() > 240
    assert frames[0].image[24:].mean() < 15


def test_folders_and_patterns_give_images_videos_and_bags(
    tmp_path: Path, images: Path, video: Path
) -> None:
    bag = write_bag(tmp_path / "bag")
    assert expand(str(images)) == [str(images)]
    assert expand(str(tmp_path)) == [str(bag), str(video)]
    (tmp_path / "x.png").write_bytes((images / "001.png").read_bytes())
    assert expand(str(tmp_path)) == [str(tmp_path), str(bag), str(video)]
    assert expand(str(tmp_path / "*.avi")) == [str(video)]
    for text in ("nowhere", "nothing*", "0", "rtsp://x/y", str(bag), str(video)):
        assert expand(text) == [text]


def test_no_frame_comes_twice(
    tmp_path: Path, images: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.avi").symlink_to(video)
    (tmp_path / "same.png").symlink_to(images / "001.png")
    one, two, three, four = (f"images/00{number}.png" for number in (1, 2, 3, 4))
    for texts, expected in [
        (["images", one], ["images"]),
        ([one, "images"], ["images"]),
        (["images", "./images", f"{images}/", "images/*.png"], ["images"]),
        (["images/*[12].png", "images/*[34].png"], ["images/*[12].png", "images/*[34].png"]),
        ([one, two, three, four, "images"], ["images"]),
        (["same.png", one, two], ["same.png", two]),
        (["video.avi", "./video.avi", "link.avi", str(video)], ["video.avi"]),
        (["nowhere", "nowhere", "0", "0", "no*.png"], ["nowhere", "0", "no*.png"]),
        (["images", "x" * 5000], ["images", "x" * 5000]),
    ]:
        assert expand_all(texts) == expected


def test_images_of_two_sources_are_refused(images: Path) -> None:
    first, second = f"{images}/*[12].png", f"{images}/*[234].png"
    with pytest.raises(SourceError) as caught:
        expand_all([first, second])
    expected = f"{images}/002.png belongs to {second} and to {first}: name each image once"
    assert str(caught.value) == expected


@pytest.mark.parametrize("storage", ["mcap", "db3"])
def test_files_of_a_bag_do_not_come_beside_it(
    tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    archive = tmp_path / "archive"
    archive.mkdir()
    bag = write_bag(archive / "bag", storage="mcap" if storage == "mcap" else "sqlite3")
    alone = archive / f"alone.{storage}"
    alone.write_bytes((bag / f"bag.{storage}").read_bytes())
    assert expand_all(["archive/**"]) == [f"archive/alone.{storage}", "archive/bag"]
    inside = f"archive/bag/bag.{storage}"
    assert expand_all([inside, "archive/bag"]) == ["archive/bag"]
    assert expand_all([inside, str(bag / ".." / "bag" / f"bag.{storage}")]) == [inside]


@pytest.mark.parametrize("text", ["nowhere.mp4", "nothing*.png", "/dev/video99", "file://nowhere"])
def test_what_cannot_be_opened(text: str) -> None:
    with pytest.raises(SourceError):
        open_recording(text, ALL)


def test_what_is_live() -> None:
    assert [is_live(text) for text in ("0", "/dev/video2", "rtsp://a", "a.mp4")] == [
        *(True, True, True, False)
    ]


def test_what_may_not_be_looked_at_is_a_source_that_cannot_be_read(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert expand(str(images)) == [str(images)]
    with pytest.raises(SourceError, match="Permission denied"):
        open_recording(str(images), ALL)
    endless = "x" * 5000
    assert expand(endless) == [endless]
    with pytest.raises(SourceError, match="name too long"):
        open_recording(endless, ALL)


def test_passwords_stay_out_of_results(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_here(name: str, **arguments: Any) -> Any:
        assert name == "rtsp://me:secret@camera/1"
        return open_source(str(video), **arguments)

    monkeypatch.setattr(recordings, "open_source", open_here)
    frames, _ = read(open_recording("rtsp://me:secret@camera/1", ALL))
    assert {frame.source for frame in frames} == {"rtsp://me:***@camera/1"}


def test_a_video_behind_an_address_is_read_as_a_file(video: Path) -> None:
    recording = open_recording(f"file://{video}", ALL)
    frames, failures = read(recording)
    assert (recording.kind, len(frames), failures) == ("video", 10, [])
    assert frames[1].stamp_ns == 100_000_000
