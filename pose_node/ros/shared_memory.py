"""Mends what killed processes leave in shared memory, and notices what cannot be mended.

Fast DDS keeps a segment (tens of MiB with the profile of this package) and a few small ports for
each process, beside lock files that the process holds as long as it lives. It removes them at its
end; a process that is killed cannot, and three things follow:

- Its segment stays, so a node that is killed and started again for days would fill /dev/shm.
- A port that was being made stays half made, and whoever opens it later waits forever.
- Others go on sending to its ports until they believe that it is gone, making and removing them
  with each message. A process that starts meanwhile gets the same ports, and one of the others may
  remove the new one (Fast DDS pull request 4728 tells of it): it then hears nothing, for good.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Fast DDS puts it
_LOCK = re.compile(r"(fastdds|fastrtps)_[0-9a-f]{16}_el")
_PORT = re.compile(r"(fastdds|fastrtps)_port\d+")
_MAKING_SECONDS = 5.0  # a file may be this young and not locked, or not complete, yet

# The first word of memory that Boost.Interprocess manages says how far its maker has come.
_INITIALIZED, _CORRUPTED = (number.to_bytes(4, "little") for number in (2, 3))

_LOOK_SECONDS = 0.5
_LOOKS_UNTIL_LOST = 3  # Fast DDS replaces a port that it finds broken before the second of them


def remove_stale_segments(folder: Path = SHARED_MEMORY) -> int:
    """Remove the segments of processes of this user that are no more.

    Args:
        folder: where they are.

    Returns:
        Bytes that were freed.
    """
    return sum(_remove_if_stale(path) for path in _files_in(folder) if _LOCK.fullmatch(path.name))


def remove_half_made_ports(folder: Path = SHARED_MEMORY) -> int:
    """Remove the ports that a killed process of this user did not finish making.

    Processes that wait for one to be finished go on.

    Args:
        folder: where they are.

    Returns:
        How many there were.
    """
    return sum(
        _remove_if_half_made(path) for path in _files_in(folder) if _PORT.fullmatch(path.name)
    )


def held_ports(process: Path = Path("/proc/self")) -> set[str]:
    """The paths of the ports that belong to a process: it holds their lock files.

    Args:
        process: its folder in /proc.
    """
    found = set()
    for descriptor in _files_in(process / "fd"):
        with contextlib.suppress(OSError):  # closed meanwhile
            path = str(descriptor.readlink()).removesuffix(" (deleted)")
            port = path.removesuffix("_el")
            if port != path and _PORT.fullmatch(Path(port).name):
                found.add(port)
    return found


class PortWatch:
    """Notices that a port of this process was removed by others, and that it hears nothing by it.

    Args:
        process: its folder in /proc.
        now: the clock, in seconds.
        ignored: paths of ports that are not its own, or not worth telling of again.
    """

    def __init__(
        self,
        process: Path = Path("/proc/self"),
        now: Callable[[], float] = time.monotonic,
        *,
        ignored: AbstractSet[str] = frozenset(),
    ) -> None:
        self._process = process
        self._ignored = set(ignored)
        self._now = now
        self._next_look = now()
        self._sound: dict[str, int] = {}  # inodes of the ports by path, if none was missing
        self._missing_looks = 0

    def lost(self) -> set[str]:
        """The paths of ports that have been missing for some seconds; ask again and again."""
        if self._now() < self._next_look:
            return set()
        self._next_look = self._now() + _LOOK_SECONDS
        missing = self._missing()
        self._missing_looks = self._missing_looks + 1 if missing else 0
        return missing if self._missing_looks >= _LOOKS_UNTIL_LOST else set()

    def ignore(self, ports: AbstractSet[str]) -> None:
        """Tell no more of these ports."""
        self._ignored |= ports

    def _missing(self) -> set[str]:
        if self._sound and all(_inode(path) == inode for path, inode in self._sound.items()):
            return set()
        ports = held_ports(self._process) - self._ignored
        mapped = self._mapped_inodes() if ports else set()
        found = {path: _inode(path) for path in ports}
        missing = {path for path, inode in found.items() if inode not in mapped}
        self._sound = {} if missing else found
        return missing

    def _mapped_inodes(self) -> set[int]:
        """Of all ports that the process has in its memory, also of removed ones."""
        found = set()
        with contextlib.suppress(OSError), (self._process / "maps").open() as lines:
            for line in lines:
                *_, inode, path = [*line.split(None, 5), ""][:6]
                if "_port" in path:
                    found.add(int(inode))
        return found


@contextlib.contextmanager
def kept_from_fast_dds(ports: Iterable[str]) -> Iterator[None]:
    """Ports that a process made meanwhile will not get, so that it gets some that nobody knows.

    Fast DDS takes the first ports that are free, for UDP by the same numbers.

    Args:
        ports: their paths.
    """
    with contextlib.ExitStack() as held:
        for path in ports:
            with contextlib.suppress(OSError):  # somebody else holds it: just as well
                lock = held.enter_context(open(f"{path}_el", "ab"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held.callback(Path(lock.name).unlink, missing_ok=True)
            number = int(path.rpartition("port")[2])
            for occupied in (number - 1, number):
                with contextlib.suppress(OSError):
                    datagrams = held.enter_context(socket.socket(type=socket.SOCK_DGRAM))
                    datagrams.bind(("", occupied))
        yield


def _files_in(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):  # not there, or not to be read
        yield from sorted(folder.iterdir())


def _inode(path: str) -> int:
    with contextlib.suppress(OSError):
        return os.stat(path, follow_symlinks=False).st_ino
    return 0


def _is_ours_and_old(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and time.time() - status.st_mtime >= _MAKING_SECONDS


def _remove_if_stale(lock: Path) -> int:
    segment = lock.with_name(lock.name.removesuffix("_el"))
    with contextlib.suppress(OSError):  # gone meanwhile, held by its process, or somebody else's
        if not _is_ours_and_old(lock.stat(follow_symlinks=False)):
            return 0
        with lock.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = segment.stat(follow_symlinks=False).st_size if segment.exists() else 0
            segment.unlink(missing_ok=True)
            lock.unlink()
        return size
    return 0


def _remove_if_half_made(port: Path) -> bool:
    with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's
        descriptor = os.open(port, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not _is_ours_and_old(os.fstat(descriptor)):
                return False
            if os.pread(descriptor, 4, 0) in (_INITIALIZED, _CORRUPTED):
                return False
            port.unlink()
            os.pwrite(descriptor, _CORRUPTED, 0)  # who waits for it to be finished gives up now
        finally:
            os.close(descriptor)
        return True
    return False
