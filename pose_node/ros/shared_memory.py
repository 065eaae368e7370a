"""Removes what killed processes left in shared memory.

Fast DDS keeps a segment (tens of MiB with the profile of this package) beside a lock file that its
process holds as long as it lives, and removes both at its end. A process that is killed cannot, so
a node that is killed and started again for days would fill /dev/shm. `fastdds shm clean` does the
same by hand.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Fast DDS puts it
_LOCK = re.compile(r"(fastdds|fastrtps)_[0-9a-f]{16}_el")
_MAKING_SECONDS = 5.0  # a lock file may be this young and not locked yet


def remove_stale_segments(folder: Path = SHARED_MEMORY) -> int:
    """Remove the segments of processes of this user that are no more.

    Args:
        folder: where they are.

    Returns:
        Bytes that were freed.
    """
    freed = 0
    with contextlib.suppress(OSError):  # not there, or not to be read
        for lock in sorted(folder.iterdir()):
            if _LOCK.fullmatch(lock.name):
                freed += _remove_if_stale(lock)
    return freed


def _remove_if_stale(lock: Path) -> int:
    segment = lock.with_name(lock.name.removesuffix("_el"))
    with contextlib.suppress(OSError):  # gone meanwhile, held by its process, or somebody else's
        status = lock.stat(follow_symlinks=False)
        if status.st_uid != os.geteuid() or time.time() - status.st_mtime < _MAKING_SECONDS:
            return 0
        with lock.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = segment.stat(follow_symlinks=False).st_size if segment.exists() else 0
            segment.unlink(missing_ok=True)
            lock.unlink()
        return size
    return 0
