"""What killed processes left is removed, and nothing else; a port that is lost is noticed."""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from pose_node.ros import shared_memory
from pose_node.ros.shared_memory import (
    PortWatch,
    kept_from_fast_dds,
    remove_half_made_ports,
    remove_stale_segments,
)

NAME = "fastdds_0123456789abcdef"
PORT = "fastdds_port7413"


def make(folder: Path, name: str = NAME, size: int = 1000, age: float = 60.0) -> Path:
    """A segment and its lock file, made so many seconds ago."""
    (folder / name).write_bytes(bytes(size))
    lock = folder / f"{name}_el"
    lock.touch()
    past = lock.stat().st_mtime - age
    os.utime(lock, (past, past))
    return lock


def make_port(folder: Path, state: bytes, name: str = PORT, age: float = 60.0) -> Path:
    """A port whose first bytes say how far its maker came, made so many seconds ago."""
    port = folder / name
    port.write_bytes(state)
    past = port.stat().st_mtime - age
    os.utime(port, (past, past))
    return port


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


@pytest.mark.parametrize("name", [PORT, "fastrtps_port27919"])
@pytest.mark.parametrize("state", [b"", b"\0", bytes(100), b"\x01\0\0\0" + bytes(96)])
def test_a_half_made_port_is_removed_and_who_waits_for_it_told(
    tmp_path: Path, name: str, state: bytes
) -> None:
    with make_port(tmp_path, state, name).open("rb") as waiting:
        assert remove_half_made_ports(tmp_path) == 1
        assert names(tmp_path) == []
        assert waiting.read(4) == b"\x03\0\0\0"  # "corrupted", to Boost.Interprocess


@pytest.mark.parametrize(
    ("name", "state", "age"),
    [
        (PORT, b"\x02\0\0\0" + bytes(96), 60.0),  # complete
        (PORT, b"\x03\0\0\0" + bytes(96), 60.0),  # Fast DDS sees that itself
        (PORT, bytes(100), 0.0),  # being made
        (f"{PORT}_el", b"", 60.0),
        (f"sem.{PORT}_mutex", bytes(32), 60.0),
        (NAME, bytes(100), 60.0),
        ("other", bytes(100), 60.0),
    ],
)
def test_what_is_no_half_made_port_stays(
    tmp_path: Path, name: str, state: bytes, age: float
) -> None:
    port = make_port(tmp_path, state, name, age)
    assert remove_half_made_ports(tmp_path) == 0
    assert port.read_bytes() == state


def test_half_made_ports_of_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = make_port(tmp_path, bytes(100))
    monkeypatch.setattr(shared_memory.os, "geteuid", lambda: os.getuid() + 1)
    assert remove_half_made_ports(tmp_path) == 0
    assert port.read_bytes() == bytes(100)


def test_a_port_that_is_a_link_or_a_folder_stays(tmp_path: Path) -> None:
    precious = make_port(tmp_path, b"kept", "precious")
    folder = tmp_path / "shm"
    (folder / "fastdds_port1").mkdir(parents=True)
    (folder / PORT).symlink_to(precious)
    assert remove_half_made_ports(folder) == 0
    assert remove_half_made_ports(tmp_path / "none") == 0
    assert precious.read_bytes() == b"kept"
    assert names(folder) == ["fastdds_port1", PORT]


class Ports:
    """Ports that this process holds, as Fast DDS does; and a clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds = 0.0
        self.watch = PortWatch(now=lambda: self.seconds)
        self._open: list[BinaryIO | mmap.mmap] = []

    def make(self, name: str = PORT) -> Path:
        port = self.folder / name
        port.write_bytes(bytes(mmap.PAGESIZE))
        with port.open("r+b") as file:
            self._open.append(mmap.mmap(file.fileno(), 0))
        lock = self.folder / f"{name}_el"
        lock.touch()
        self._open.append(lock.open("rb"))
        return port

    def looks(self, count: int = 10, half_way: bool = False) -> list[set[str]]:
        found = []
        for _ in range(count):
            self.seconds += 0.25 if half_way else 0.5
            found.append({Path(path).name for path in self.watch.lost()})
        return found

    def close(self) -> None:
        for opened in self._open:
            opened.close()


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    made = Ports(tmp_path)
    yield made
    made.close()


def test_ports_that_are_there_are_not_lost(ports: Ports) -> None:
    assert not any(ports.looks())  # none at all, as without shared memory
    ports.make()
    ports.make("fastrtps_port7001")
    assert not any(ports.looks())


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("seen_before", [False, True])
def test_a_port_that_was_removed_or_replaced_is_lost(
    ports: Ports, replaced: bool, seen_before: bool
) -> None:
    port = ports.make()
    ports.make("fastdds_port7001")
    if seen_before:
        ports.looks()
    port.unlink()
    if replaced:
        port.write_bytes(bytes(mmap.PAGESIZE))
    assert ports.looks(4) == [set(), set(), {PORT}, {PORT}]


def test_what_is_not_its_own_is_not_lost(ports: Ports) -> None:
    inherited, own = ports.make(), ports.make("fastdds_port7001")
    ports.watch = PortWatch(now=lambda: ports.seconds, ignored={str(inherited)})
    inherited.unlink()
    assert not any(ports.looks())
    own.unlink()
    assert ports.looks(4)[-1] == {own.name}
    ports.watch.ignore({str(own)})
    assert not any(ports.looks())


def test_a_lock_that_was_removed_too_does_not_hide_a_loss(ports: Ports) -> None:
    ports.make().unlink()
    (ports.folder / f"{PORT}_el").unlink()
    assert ports.looks(3) == [set(), set(), {PORT}]


def test_it_looks_twice_a_second(ports: Ports) -> None:
    ports.make().unlink()
    assert ports.looks(6, half_way=True).index({PORT}) == 4


def test_a_port_that_fast_dds_makes_again_is_not_lost(ports: Ports) -> None:
    ports.make().unlink()
    assert not any(ports.looks(2))
    ports.make()
    assert not any(ports.looks())


def test_a_process_that_cannot_be_looked_at_has_lost_nothing(tmp_path: Path) -> None:
    seconds = iter(range(100))
    watch = PortWatch(tmp_path / "none", lambda: float(next(seconds)))
    assert not any(watch.lost() for _ in range(10))


def test_what_is_kept_from_fast_dds(tmp_path: Path) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("", 0))
        number = other.getsockname()[1]
    port = tmp_path / f"fastdds_port{number}"
    with kept_from_fast_dds([str(port)]):
        lock = tmp_path / f"{port.name}_el"
        with lock.open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for occupied in (number, number - 1):
            with (
                socket.socket(type=socket.SOCK_DGRAM) as other,
                pytest.raises(OSError, match="in use"),
            ):
                other.bind(("", occupied))
    assert names(tmp_path) == []
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("", number))


def test_what_somebody_else_holds_need_not_be_kept(tmp_path: Path) -> None:
    lock = make(tmp_path, PORT)
    with lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with kept_from_fast_dds([str(tmp_path / PORT)]):
            pass
    assert lock.exists()
    with kept_from_fast_dds([str(tmp_path / "none" / PORT)]):
        pass
