from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pose_node.errors import OutputError
from pose_node.poses import Poses
from pose_node.prediction.frames import AnsweredFrame, Failure
from pose_node.prediction.journal import Journal, RecalledRecording, pack
from tests.prediction.conftest import make_recorded, people_in

SETTINGS = {"model": "x", "range": (1, 2)}


def open_journal(path: Path, *, resume: bool = True, **settings: object) -> Journal:
    return Journal(path, {**SETTINGS, **settings}, num_keypoints=3, resume=resume)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A journal of four frames, nobody in the first."""
    path = tmp_path / "journal"
    journal = open_journal(path, resume=False)
    for index in range(4):
        frame = make_recorded(index)
        journal.add(frame, people_in(frame.image))
    journal.close(keep=True)
    return path


def recalled(journal: Journal, count: int = 6) -> list[int]:
    found = []
    for index in range(count):
        frame = make_recorded(index)
        poses = journal.recall(frame)
        if poses is not None:
            expected = people_in(frame.image)
            np.testing.assert_array_equal(poses.keypoints, expected.keypoints)
            np.testing.assert_array_equal(poses.scores, expected.scores)
            np.testing.assert_array_equal(poses.boxes_xyxy, expected.boxes_xyxy)
            found.append(index)
        else:
            journal.add(frame, people_in(frame.image))
    journal.close(keep=True)
    return found


def test_what_was_found_is_recalled_bit_for_bit(written: Path) -> None:
    assert recalled(open_journal(written)) == [0, 1, 2, 3]
    assert recalled(open_journal(written)) == [0, 1, 2, 3, 4, 5]


def test_a_known_frame_that_does_not_come_costs_no_other(written: Path) -> None:
    journal = open_journal(written)
    frames = [make_recorded(index) for index in (0, 1, 3)]  # 2 cannot be read this time
    assert [journal.recall(frame) is not None for frame in frames] == [True] * 3
    assert journal.recall(make_recorded(2, source="b.mp4")) is None
    assert journal.recall(make_recorded(2, topic="/x")) is None
    journal.close(keep=False)


def test_entries_in_any_order_are_found(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "journal", resume=False)
    order = [5, 0, 3, 4, 1, 0]  # one came twice
    for index in order:
        for source in ("a.mp4", "b.mp4"):
            frame = make_recorded(index, source=source)
            journal.add(frame, people_in(frame.image))
    journal.close(keep=True)
    journal = open_journal(tmp_path / "journal")
    known = journal.known()
    assert set(known) == {("a.mp4", ""), ("b.mp4", "")}
    assert sorted(set(known["a.mp4", ""].tolist())) == [0, 1, 3, 4, 5]
    assert recalled(journal) == [0, 1, 3, 4, 5]


def test_a_new_journal_knows_nothing(written: Path) -> None:
    journal = open_journal(written, resume=False)
    assert journal.known() == {}
    journal.close(keep=False)


def test_what_was_added_can_be_read_at_once(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "journal")
    frame = make_recorded(3, topic="/x", channel_order="rgb", frame_id="camera", logged_ns=7)
    poses = people_in(frame.image)
    first = journal.add_packed({**frame.describe(), "kind": "frame"}, pack(poses))
    second = journal.add_packed(make_recorded(0, stamp_ns=None).describe(), b"")
    found = journal.read(first)
    assert (found.describe(), found.recalled) == (frame.describe(), False)
    assert found.image.shape == frame.image.shape
    np.testing.assert_array_equal(found.poses.keypoints, poses.keypoints)
    assert (journal.read(second).stamp_ns, len(journal.read(second).poses)) == (None, 0)
    journal.close(keep=True)
    journal = open_journal(tmp_path / "journal")
    place = journal.place_of(frame.key)
    assert place == first
    assert journal.read(place).recalled
    journal.close(keep=False)


def test_what_was_found_in_a_camera_can_be_gone_through_again(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "journal")
    for index in (0, 2, 1):
        stamp_ns = 1_700_000_000_000_000_000 + index
        frame = make_recorded(index, source="rtsp://me:***@camera", stamp_ns=stamp_ns)
        journal.add(frame, people_in(frame.image), live=True)
        frame = make_recorded(index, source="http://server/a.mp4")
        journal.add(frame, people_in(frame.image))
    journal.add_end("rtsp://me:***@camera", "stopped delivering")
    journal.close(keep=True)
    journal = open_journal(tmp_path / "journal")
    recording = RecalledRecording("rtsp://me:secret@camera", journal)
    assert (recording.frame_count, recording.fps, recording.kind) == (3, None, "video")
    *frames, end = recording
    assert end == Failure("rtsp://me:***@camera", "stopped delivering")
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert all(isinstance(frame, AnsweredFrame) and frame.recalled for frame in frames)
    assert frames[1].stamp_ns == 1_700_000_000_000_000_001
    recording.close()
    names = ("rtsp://me:***@camera", "http://server/a.mp4", "rtsp://other")
    assert [journal.was_live(name) for name in names] == [True, False, False]
    assert [item.index for item in RecalledRecording(names[1], journal)] == [0, 1, 2]
    journal.close(keep=False)


def test_a_journal_of_another_version(written: Path) -> None:
    written.write_text(written.read_text().replace('{"journal": 3', '{"journal": 2'))
    with pytest.raises(OutputError, match="it was made by another version; --force starts anew"):
        open_journal(written)


@pytest.mark.parametrize(
    ("end", "kept"),
    [
        ('{"source": "0", "broken_off": "x"}', True),
        ('{"source": 1, "broken_off": "x"}', False),
        ('{"source": "0", "broken_off": null}', False),
    ],
)
def test_a_damaged_end_of_a_camera_is_cut_off(written: Path, end: str, kept: bool) -> None:
    before = written.read_text()
    written.write_text(f"{before}{end}\n")
    journal = open_journal(written)
    assert written.read_text() == (f"{before}{end}\n" if kept else before)
    assert journal.why_broken_off("0") == ("x" if kept else None)
    assert recalled(journal) == [0, 1, 2, 3]


def test_a_journal_that_vanished_cannot_be_read(written: Path) -> None:
    journal = open_journal(written)
    place = journal.place_of(make_recorded(1).key)
    assert place is not None
    journal._reader.close()
    journal._reader = written.open("ab")  # type: ignore[assignment]
    with pytest.raises(OutputError, match="cannot read"):
        journal.read(place)
    journal.close(keep=False)


@pytest.mark.parametrize("cut", [1, 40])
def test_the_torn_end_of_a_killed_run_is_left_out(written: Path, cut: int) -> None:
    written.write_bytes(written.read_bytes()[:-cut])
    assert recalled(open_journal(written)) == [0, 1, 2]
    assert recalled(open_journal(written)) == [0, 1, 2, 3, 4, 5]


def test_damage_in_the_middle_loses_only_what_follows(written: Path) -> None:
    content = bytearray(written.read_bytes())
    third = [n for n, byte in enumerate(content) if byte == ord("\n")][2]
    content[third + 5 : third + 9] = b"\xff\xff\xff\xff"
    written.write_bytes(content)
    assert recalled(open_journal(written)) == [0, 1]


def test_a_new_run_forgets(written: Path) -> None:
    assert recalled(open_journal(written, resume=False)) == []


def test_frames_that_the_run_before_could_not_read(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = open_journal(path, resume=False)
    for index in (0, 2):
        frame = make_recorded(index)
        journal.add(frame, people_in(frame.image))
    journal.close(keep=True)
    assert recalled(open_journal(path), 4) == [0, 2]


def test_other_settings_are_refused(written: Path) -> None:
    with pytest.raises(
        OutputError, match=r"other settings or sources \(model: 'x', now 'y'\); --f"
    ):
        open_journal(written, model="y")


def test_what_is_no_journal_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"what?\n")
    assert recalled(open_journal(path)) == []


def test_it_is_deleted_unless_kept(written: Path) -> None:
    open_journal(written).close(keep=True)
    assert written.exists()
    open_journal(written).close(keep=False)
    assert not written.exists()


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        open_journal(tmp_path / "no/journal")
    journal = open_journal(tmp_path / "journal")
    journal._file.close()
    journal._file = (tmp_path / "journal").open("rb")  # type: ignore[assignment]
    with pytest.raises(OutputError, match="cannot write"):
        journal.add(make_recorded(), Poses.empty(3))
    (tmp_path / "journal").unlink()
    with pytest.raises(OutputError, match="cannot write"):
        journal.close(keep=False)
