"""What killed processes left is removed, and nothing else."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from pose_node.ros import shared_memory
from pose_node.ros.shared_memory import remove_stale_segments

NAME = "fastdds_0123456789abcdef"


def make(folder: Path, name: str = NAME, size: int = 1000, age: float = 60.0) -> Path:
    """A segment and its lock file, made so many seconds ago."""
    (folder / name).write_bytes(bytes(size))
    lock = folder / f"{name}_el"
    lock.touch()
    past = lock.stat().st_mtime - age
    os.utime(lock, (past, past))
    return lock


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", [NAME, "fastrtps_fedcba9876543210"])
def test_what_nobody_holds_is_removed(tmp_path: Path, name: str) -> None:
    make(tmp_path, name)
    assert remove_stale_segments(tmp_path) == 1000
    assert names(tmp_path) == []


def test_a_lock_without_its_segment_is_removed(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / NAME).unlink()
    assert remove_stale_segments(tmp_path) == 0
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", [fcntl.LOCK_EX, fcntl.LOCK_SH])
def test_what_a_process_holds_stays(tmp_path: Path, kind: int) -> None:
    with make(tmp_path).open("ab") as held:
        fcntl.flock(held, kind)
        assert remove_stale_segments(tmp_path) == 0
        assert names(tmp_path) == [NAME, f"{NAME}_el"]


def test_what_is_being_made_stays(tmp_path: Path) -> None:
    make(tmp_path, age=0.0)
    assert remove_stale_segments(tmp_path) == 0
    assert names(tmp_path) == [NAME, f"{NAME}_el"]


def test_what_belongs_to_somebody_else_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path)
    monkeypatch.setattr(shared_memory.os, "geteuid", lambda: os.getuid() + 1)
    assert remove_stale_segments(tmp_path) == 0
    assert len(names(tmp_path)) == 2


def test_links_are_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    folder = tmp_path / "shm"
    folder.mkdir()
    (folder / NAME).symlink_to(precious)
    make_lock = folder / f"{NAME}_el"
    make_lock.touch()
    os.utime(make_lock, (0, 0))
    remove_stale_segments(folder)
    assert precious.read_text() == "kept"


@pytest.mark.parametrize(
    "name", ["fastdds_port7413", "fastdds_0123", "sem.fastdds_port7413_mutex", "other"]
)
def test_other_files_stay(tmp_path: Path, name: str) -> None:
    lock = make(tmp_path, name)
    assert remove_stale_segments(tmp_path) == 0
    assert names(tmp_path) == [name, lock.name]


def test_no_such_folder(tmp_path: Path) -> None:
    assert remove_stale_segments(tmp_path / "none") == 0
