"""Names of files, plain and no two alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from pose_node.prediction.names import FreeNames, plain_name


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("/data/My video.mp4", "My video"),
        ("rtsp://cam:1/a?b", "cam_1_a_b"),
        ("0", "0"),
        ("...", "source"),
        ("bags/walk/", "walk"),
    ],
)
def test_names(source: str, expected: str) -> None:
    assert plain_name(source) == expected


def test_no_password_in_a_name() -> None:
    assert plain_name("rtsp://me:secret@camera:554/stream") == "camera_554_stream"


def test_a_folder_has_no_suffix(tmp_path: Path) -> None:
    (tmp_path / "walk_2026.11.02").mkdir()
    assert plain_name(str(tmp_path / "walk_2026.11.02")) == "walk_2026.11.02"


def test_no_two_alike() -> None:
    names = FreeNames()
    given = [names.take(stem, ".png") for stem in ("a", "a", "a_2", "a", "b", "a_2")]
    assert given == ["a.png", "a_2.png", "a_2_2.png", "a_3.png", "b.png", "a_2_3.png"]


def test_many_alike_take_no_more_time_each() -> None:
    class CountedSet(set[str]):
        looks = 0

        def __contains__(self, name: object) -> bool:
            CountedSet.looks += 1
            return super().__contains__(name)

    names = FreeNames()
    names._taken = CountedSet()
    assert len({names.take("frame", ".jpg") for _ in range(1000)}) == 1000
    assert CountedSet.looks < 3000
