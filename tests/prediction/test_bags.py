from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose_node.errors import SourceError
from pose_node.prediction.bags import BagRecording, is_bag
from pose_node.prediction.frames import Failure, RecordedFrame, Selection
from tests.prediction.conftest import write_bag

ALL = Selection()


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_colour_images_with_their_own_stamps(tmp_path: Path, storage: str) -> None:
    path = write_bag(tmp_path / "bag", storage=storage, compressed=True)
    recording = BagRecording(path, ALL)
    assert recording.topics == ("/cam/image",)  # neither depth nor the compressed twin
    assert recording.frame_count == 5
    assert recording.fps is None
    frames = [item for item in recording if isinstance(item, RecordedFrame)]
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert frames[2].stamp_ns == 1_700_000_000_200_000_007
    assert frames[2].logged_ns == frames[2].stamp_ns + 5_000_000
    assert (frames[2].frame_id, frames[2].channel_order) == ("cam_optical", "rgb")
    assert frames[2].image.mean() == 80
    recording.close()


def test_topics_by_name(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag", compressed=True)
    topics = ["/cam/image/compressed", "/cam/image"]
    recording = BagRecording(path, Selection.parse("1:", every=2), topics=topics)
    assert recording.frame_count == 4
    found = [(f.topic, f.index) for f in recording if isinstance(f, RecordedFrame)]
    assert sorted(found) == sorted((topic, index) for topic in topics for index in (1, 3))


@pytest.mark.parametrize(("text", "expected"), [("0.1s:0.3s", [1, 2]), ("3:", [3, 4]), (":1", [0])])
def test_ranges(tmp_path: Path, text: str, expected: list[int]) -> None:
    recording = BagRecording(write_bag(tmp_path / "bag"), Selection.parse(text))
    assert [f.index for f in recording if isinstance(f, RecordedFrame)] == expected


def test_single_files_of_bags(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag")
    (file,) = path.glob("*.mcap")
    assert is_bag(path)
    assert is_bag(file)
    assert not is_bag(tmp_path)
    assert BagRecording(file, ALL).frame_count == 5


def test_a_damaged_image_is_a_failure_and_the_rest_goes_on(tmp_path: Path) -> None:
    items = list(BagRecording(write_bag(tmp_path / "bag", damage=[2]), ALL))
    assert [type(item).__name__ for item in items].count("RecordedFrame") == 4
    (failure,) = [item for item in items if isinstance(item, Failure)]
    assert (failure.topic, failure.index) == ("/cam/image", 2)
    assert "needs 2304 bytes, got 10" in failure.reason


def test_bags_without_such_topics(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag")
    with pytest.raises(SourceError, match="no image topic /x; found: /cam/depth/image, /cam/image"):
        BagRecording(path, ALL, topics=["/x"])
    empty = write_bag(tmp_path / "empty", count=0)
    with pytest.raises(SourceError, match="no colour images in /cam/depth/image, /cam/image"):
        BagRecording(empty, ALL)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_damaged_bags(tmp_path: Path, storage: str) -> None:
    path = write_bag(tmp_path / "bag", storage=storage)
    (file,) = [file for file in path.iterdir() if file.suffix in (".mcap", ".db3")]
    content = file.read_bytes()
    for size in (0, 10, len(content) // 2):
        file.write_bytes(content[:size])
        try:
            items = list(BagRecording(path, ALL))
        except SourceError:
            continue
        assert any(isinstance(item, Failure) for item in items)
    file.unlink()
    with pytest.raises(SourceError, match="cannot be read"):
        BagRecording(path, ALL)


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rosbags.highlevel", None)
    with pytest.raises(SourceError, match=r"pip install 'pose-node\[recordings\]'"):
        BagRecording(tmp_path, ALL)


def test_real_bags(shared: Path) -> None:
    bags = shared / "data/bags"
    recording = BagRecording(bags / "one_by_one_person_mcap", ALL)
    assert (recording.topics, recording.frame_count) == (("/camera/image_raw/compressed",), 80)
    recording = BagRecording(bags / "rgbd_person_sqlite3", ALL)
    assert (recording.topics, recording.frame_count) == (("/camera/color/image_raw",), 2)


def test_a_bag_of_ros_1(tmp_path: Path) -> None:
    rosbag1 = pytest.importorskip("rosbags.rosbag1", reason="rosbags missing: pip install rosbags")
    from rosbags.typesys import Stores, get_typestore

    typestore = get_typestore(Stores.ROS1_NOETIC)
    types = typestore.types
    with rosbag1.Writer(tmp_path / "old.bag") as writer:
        connection = writer.add_connection(
            "/camera/image", "sensor_msgs/msg/Image", typestore=typestore
        )
        stamp = types["builtin_interfaces/msg/Time"](sec=17, nanosec=5)
        header = types["std_msgs/msg/Header"](seq=3, stamp=stamp, frame_id="cam")
        data = np.full(24 * 32, 70, np.uint8)
        image = types["sensor_msgs/msg/Image"](header, 24, 32, "mono8", 0, 32, data)
        content = typestore.serialize_ros1(image, connection.msgtype)
        writer.write(connection, 17_000_000_100, content)
    (frame,) = BagRecording(tmp_path / "old.bag", ALL)
    assert isinstance(frame, RecordedFrame)
    assert (frame.stamp_ns, frame.frame_id, frame.logged_ns) == (
        17_000_000_005,
        "cam",
        17_000_000_100,
    )
    assert frame.image.shape == (24, 32, 3)
    assert frame.image.mean() == 70


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_whatever_a_library_raises_is_a_failure(
    tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zstandard, LZ4 and SQLite have errors of their own, in modules that change."""
    from rosbags.highlevel import AnyReader

    class ForeignError(Exception):
        pass

    whole = AnyReader.messages

    def messages(reader: Any, *args: Any, **options: Any) -> Any:
        yield next(iter(whole(reader, *args, **options)))
        raise ForeignError("data corruption detected")

    recording = BagRecording(write_bag(tmp_path / "bag", storage=storage), Selection())
    monkeypatch.setattr(AnyReader, "messages", messages)
    frame, failure = list(recording)
    assert isinstance(frame, RecordedFrame)
    assert isinstance(failure, Failure)
    assert failure.reason == "ends after 1 images: ForeignError: data corruption detected"

    def refuse(reader: Any) -> None:
        raise ForeignError

    monkeypatch.setattr(AnyReader, "open", refuse)
    with pytest.raises(SourceError, match="cannot be read: ForeignError"):
        BagRecording(tmp_path / "bag", Selection())
