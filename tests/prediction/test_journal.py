from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pose_node.errors import OutputError
from pose_node.poses import Poses
from pose_node.prediction.journal import Journal
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


def test_how_far_the_run_before_came(written: Path) -> None:
    journal = open_journal(written)
    assert journal.last_known() == {("a.mp4", ""): 3}
    assert journal.recall(make_recorded(0)) is not None
    journal.close(keep=True)
    journal = open_journal(written, resume=False)
    assert journal.last_known() == {}
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
