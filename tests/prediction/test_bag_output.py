"""Bags of results, read back with two independent libraries."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags missing: pip install rosbags")
pytest.importorskip("mcap_ros2", reason="mcap missing: pip install mcap-ros2-support")

from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Writer, WriterError

from pose_node.errors import OutputError
from pose_node.poses import Poses
from pose_node.prediction.bag_output import BagOutput
from pose_node.prediction.bags import BagRecording
from pose_node.prediction.frames import RecordedFrame, Selection
from pose_node.prediction.message_definitions import DEFINITIONS
from tests.prediction.conftest import TRIO, FakeRecording, make_recorded, people_in, write_bag

REPOSITORY = Path(__file__).resolve().parents[2]


def fill(output: BagOutput, recording: BagRecording, *, complete: bool = True) -> None:
    output.begin(recording)
    for frame in recording:
        assert isinstance(frame, RecordedFrame)
        output.write(frame, people_in(frame.image))
    output.end(complete=complete)


def messages(path: Path) -> dict[str, list[tuple[int, Any]]]:
    """Time and content of the messages of each topic, as the rosbags library reads them."""
    found: dict[str, list[tuple[int, Any]]] = {}
    with AnyReader([path]) as reader:  # no types but those in the bag
        for connection, logged_ns, content in reader.messages():
            message = reader.deserialize(content, connection.msgtype)
            found.setdefault(connection.topic, []).append((logged_ns, message))
    return found


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_every_image_has_one_message_with_its_stamp(tmp_path: Path, storage: str) -> None:
    source = write_bag(tmp_path / "walk", storage=storage)
    output = BagOutput(tmp_path / "out", TRIO)
    fill(output, BagRecording(source, Selection()))
    assert output.close() == [tmp_path / "out/walk"]
    found = messages(tmp_path / "out/walk")
    assert set(found) == {"/cam/poses", "/cam/skeleton_info"}
    images = messages(source)["/cam/image"]
    assert [logged for logged, _ in found["/cam/poses"]] == [logged for logged, _ in images]
    for (_, message), (_, image) in zip(found["/cam/poses"], images, strict=True):
        assert message.header.stamp == image.header.stamp
        assert message.header.frame_id == "cam_optical"
        assert (message.image_width, message.image_height) == (32, 24)
        assert message.skeleton == "trio"
    assert [len(message.people) for _, message in found["/cam/poses"]] == [0, 1, 1, 1, 1]
    person = found["/cam/poses"][2][1].people[0]
    expected = people_in(np.full((1, 1, 3), 80, np.uint8))
    assert [[k.x, k.y, k.score] for k in person.keypoints] == expected.keypoints[0].tolist()
    assert (person.track_id, person.score) == (-1, expected.scores[0])
    assert person.bbox.x_max == 30
    ((_, info),) = found["/cam/skeleton_info"]
    assert (info.name, info.keypoint_names) == ("trio", list(TRIO.keypoint_names))
    assert (info.edges.tolist(), info.flip.tolist()) == ([0, 2], [1, 0, 2])
    file = next(p for p in (tmp_path / "out/walk").iterdir() if p.suffix in (".mcap", ".db3"))
    assert file.suffix == (".mcap" if storage == "mcap" else ".db3")
    assert file.stem.startswith("walk")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["walk"]


def test_another_library_reads_it(tmp_path: Path) -> None:
    output = BagOutput(tmp_path, TRIO, storage="mcap")
    fill(output, BagRecording(write_bag(tmp_path / "in", storage="sqlite3"), Selection()))
    found = 0
    with (tmp_path / "in" / "in.mcap").open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        for schema, channel, message, decoded in reader.iter_decoded_messages(["/cam/poses"]):
            assert (schema.name, schema.encoding) == ("pose_node/msg/PersonPoseArray", "ros2msg")
            assert channel.message_encoding == "cdr"
            stamp_ns = decoded.header.stamp.sec * 10**9 + decoded.header.stamp.nanosec
            assert message.log_time == stamp_ns + 5_000_000
            for person in decoded.people:
                assert len(person.keypoints) == 3
            found += 1
    assert found == 5


@pytest.mark.parametrize("complete", [True, False])
def test_the_messages_that_are_read_can_be_copied(tmp_path: Path, complete: bool) -> None:
    source = write_bag(tmp_path / "in", compressed=True)
    output = BagOutput(tmp_path / "out", TRIO, copy=True)
    fill(output, BagRecording(source, Selection.parse(":4")), complete=complete)
    before, after = messages(source), messages(tmp_path / "out/in")
    assert set(after) == {*before, "/cam/poses", "/cam/skeleton_info"}
    for topic, expected in before.items():
        copied = after[topic]
        # An interrupted run copies up to its last image.
        assert len(copied) == (5 if complete else 3 if topic == "/note" else 4)
        assert [logged for logged, _ in copied] == [logged for logged, _ in expected[: len(copied)]]
    for (_, copy), (_, image) in zip(after["/cam/image"], before["/cam/image"], strict=False):
        np.testing.assert_array_equal(copy.data, image.data)


def test_a_bag_of_results_can_be_read_again(tmp_path: Path) -> None:
    output = BagOutput(tmp_path / "once", TRIO, copy=True)
    fill(output, BagRecording(write_bag(tmp_path / "in"), Selection()))
    output = BagOutput(tmp_path / "twice", TRIO, copy=True)
    fill(output, BagRecording(tmp_path / "once/in", Selection()))
    found = messages(tmp_path / "twice/in")
    assert len(found["/cam/poses"]) == len(found["/cam/image/poses"]) == 5


def test_topics_of_results_never_meet_those_of_a_bag(tmp_path: Path) -> None:
    """Results of results of results, all of them copied."""
    source = write_bag(tmp_path / "in")
    for round_number in range(4):
        output = BagOutput(tmp_path / f"{round_number}", TRIO, copy=True)
        fill(output, BagRecording(source, Selection()))
        source = tmp_path / f"{round_number}/in"
    topics = {topic for topic in messages(source) if topic.endswith("/poses")}
    assert topics == {
        *("/cam/poses", "/cam/image/poses", "/cam/image_2/poses", "/cam/image_3/poses"),
    }


def test_a_topic_is_free_only_if_that_of_its_skeleton_is(tmp_path: Path) -> None:
    output = BagOutput(tmp_path / "out", TRIO)
    topics = ["/cam/image", "/cam/image/compressed"]
    bag = write_bag(tmp_path / "in", compressed=True)
    output.begin(BagRecording(bag, Selection(), topics=topics))
    assert output._bag is not None
    output._bag._writer.add_connection(
        "/cam/skeleton_info", "std_msgs/msg/Header", typestore=output._messages.typestore
    )
    output.write(make_recorded(topic="/cam/image"), Poses.empty(3))
    output.end(complete=True)
    assert {"/cam/image/poses", "/cam/image/skeleton_info"} <= set(messages(tmp_path / "out/in"))


def test_what_the_library_refuses_is_an_error_of_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise WriterError("Connection can only be added once")

    output = BagOutput(tmp_path, TRIO)
    output.begin(FakeRecording([]))
    monkeypatch.setattr(Writer, "add_connection", refuse)
    with pytest.raises(OutputError, match="can only be added once"):
        output.write(make_recorded(), Poses.empty(3))
    output.abort()
    assert list(tmp_path.iterdir()) == []


def test_two_cameras_in_one_namespace(tmp_path: Path) -> None:
    output = BagOutput(tmp_path / "out", TRIO)
    topics = ["/cam/image", "/cam/image/compressed"]
    recording = BagRecording(
        write_bag(tmp_path / "in", compressed=True), Selection(), topics=topics
    )
    fill(output, recording)
    found = messages(tmp_path / "out/in")
    assert len(found["/cam/poses"]) == len(found["/cam/image/poses"]) == 5


def test_videos_and_images_get_bags_too(tmp_path: Path) -> None:
    output = BagOutput(tmp_path, TRIO)
    for stamps in ((0, 40_000_000), (None, None)):
        output.begin(FakeRecording([]))
        for index, stamp_ns in enumerate(stamps):
            output.write(make_recorded(index, stamp_ns=stamp_ns), Poses.empty(3))
        output.end(complete=True)
    assert output.close() == [tmp_path / "a", tmp_path / "a_2"]
    first, second = (messages(path)["/poses"] for path in output.close())
    assert [message.header.stamp.nanosec for _, message in first] == [0, 40_000_000]
    assert [message.header.stamp.nanosec for _, message in second] == [0, 100_000_000]


def test_only_bags_are_copied(tmp_path: Path) -> None:
    output = BagOutput(tmp_path, TRIO, copy=True)
    with pytest.raises(OutputError, match=r"only bags can be copied, a\.mp4 is none"):
        output.begin(FakeRecording([]))
    output.abort()
    assert list(tmp_path.iterdir()) == []


def test_ros_1_is_not_copied(tmp_path: Path) -> None:
    output = BagOutput(tmp_path, TRIO)
    output.begin(FakeRecording([]))
    assert output._bag is not None
    with pytest.raises(OutputError, match="a bag of ROS 1"):
        output._bag.copy_from(tmp_path / "old.bag", output.failures.append)
    output.abort()


def test_an_unfinished_bag_is_deleted_and_the_rest_of_a_killed_run_replaced(tmp_path: Path) -> None:
    (tmp_path / ".a.partial/a").mkdir(parents=True)
    (tmp_path / "a").mkdir()
    output = BagOutput(tmp_path, TRIO)
    output.begin(FakeRecording([]))
    output.write(make_recorded(), Poses.empty(3))
    output.abort()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    output = BagOutput(tmp_path / "file", TRIO)
    with pytest.raises(OutputError, match="cannot write bag"):
        output.begin(FakeRecording([]))


def test_definitions_are_those_of_the_messages() -> None:
    for name, text in DEFINITIONS.items():
        file = (REPOSITORY / "msg" / f"{name.rpartition('/')[2]}.msg").read_text()
        lines = (re.sub(r"\s*#.*", "", line).strip() for line in file.splitlines())
        assert [re.sub(r"\s+", " ", line) for line in lines if line] == text.splitlines()


def test_a_damaged_bag_is_copied_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    source = write_bag(tmp_path / "walk", storage="sqlite3", count=40)
    output = BagOutput(tmp_path / "out", TRIO, copy=True)
    recording = BagRecording(source, Selection())
    output.begin(recording)
    assert output._bag is not None

    def damaged() -> Any:
        yield from itertools.islice(copies, 7)
        raise RuntimeError("LZ4 says no")

    copies, output._bag._copies = output._bag._copies, damaged()
    for frame in recording:
        assert isinstance(frame, RecordedFrame)
        output.write(frame, people_in(frame.image))
    output.end(complete=True)
    output.close()
    found = messages(tmp_path / "out/walk")
    assert len(found["/cam/poses"]) == 40
    assert sum(len(found[topic]) for topic in ("/cam/image", "/cam/depth/image", "/note")) == 7
    assert [failure.source for failure in output.failures] == [str(source)]
    assert "not all of it could be copied: RuntimeError: LZ4 says no" in output.failures[0].reason


def test_a_bag_that_cannot_be_opened_a_second_time(tmp_path: Path) -> None:
    recording = BagRecording(write_bag(tmp_path / "walk"), Selection())
    next((tmp_path / "walk").glob("*.mcap")).write_bytes(b"damaged")
    output = BagOutput(tmp_path / "out", TRIO, copy=True)
    output.begin(recording)
    output.end(complete=True)
    assert len(output.failures) == 1
    assert output.close() == [tmp_path / "out/walk"]


def test_messages_that_nothing_describes_are_named_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rosbags.rosbag2 import Writer

    add = Writer.add_connection

    def refuse(writer: Any, topic: str, msgtype: str, **options: Any) -> Any:
        if topic == "/note":
            raise KeyError(msgtype)
        return add(writer, topic, msgtype, **options)

    recording = BagRecording(write_bag(tmp_path / "walk"), Selection())
    output = BagOutput(tmp_path / "out", TRIO, copy=True)
    monkeypatch.setattr(Writer, "add_connection", refuse)
    fill(output, recording)
    assert [failure.topic for failure in output.failures] == ["/note"]
    assert "the definition of std_msgs/msg/String is not in the bag" in output.failures[0].reason
    found = messages(tmp_path / "out/walk")
    assert len(found["/cam/image"]) == 5
    assert "/note" not in found


def test_two_publishers_of_a_topic_are_one(tmp_path: Path) -> None:
    recording = BagRecording(write_bag(tmp_path / "walk"), Selection())
    output = BagOutput(tmp_path / "out", TRIO, copy=True)
    output.begin(recording)
    assert output._bag is not None
    first = output._bag._reader.connections[0]
    before = len(output._bag._writer.connections)
    assert output._bag._same_topic(first).topic == first.topic
    assert len(output._bag._writer.connections) == before
    output.abort()
