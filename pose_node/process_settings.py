"""Settings of the whole process that make a network on the CPU faster and steadier.

For programs, never for libraries: a `main` calls `tune_process` before anything imports torch. What
the user has set by environment variables is left alone. Everything is measured in
benchmarks/RESULTS.md.
"""

from __future__ import annotations

import ctypes
import gc
import math
import os
from collections.abc import MutableMapping
from pathlib import Path

_MEBIBYTE = 1 << 20

# mallopt(3): blocks below 32 MiB, glibc's maximum, come from the heap instead of being mapped and
# unmapped for every image and every feature map, which costs a page fault for every 4 KiB; and
# freed memory is kept. One heap for all threads, so that each finds what another has freed.
_MALLOC_OPTIONS = {
    "MALLOC_MMAP_THRESHOLD_": (-3, 32 * _MEBIBYTE),
    "MALLOC_TRIM_THRESHOLD_": (-1, 128 * _MEBIBYTE),
    "MALLOC_TOP_PAD_": (-2, 16 * _MEBIBYTE),
    "MALLOC_ARENA_MAX": (-8, 1),
}

# How often a thread of torch's pool looks for the others before it sleeps. By default it looks for
# milliseconds: beside any other busy process it burns the processor that the others wait for, and
# an image takes seconds now and then.
_SPIN_COUNT = "2000"
_PROCESSOR_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_OPENMP_VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def tune_process(environment: MutableMapping[str, str] | None = None) -> None:
    """Tune malloc and the waiting of torch's threads, as far as the user has not.

    Args:
        environment: the variables to read and set, by default those of this process.
    """
    variables = os.environ if environment is None else environment
    _tune_malloc(variables)
    if not any(variables.get(name) for name in _OPENMP_VARIABLES):
        variables["GOMP_SPINCOUNT"] = _SPIN_COUNT


def available_processors() -> int:
    """Processors that this process may use: fewer than the machine has in many containers.

    It heeds the affinity mask and the quota of a control group (version 2), rounded up.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = _PROCESSOR_QUOTA.read_text().split()
        share = math.ceil(int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):  # no control group, or no limit ("max")
        return max(count or 1, 1)
    return max(min(count or 1, share), 1)


def release_memory() -> None:
    """Give what was freed back to the system; worth it after a network was dropped.

    malloc keeps freed memory, and tuned as above more of it.
    """
    gc.collect()
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def malloc_variables() -> dict[str, str]:
    """The same tuning of malloc for a process that is still to be started, as its environment."""
    return {name: str(value) for name, (_, value) in _MALLOC_OPTIONS.items()}


def _tune_malloc(variables: MutableMapping[str, str]) -> bool:
    """Whether glibc took the options."""
    by_user = any(variables.get(name) for name in _MALLOC_OPTIONS)
    if by_user or "glibc.malloc" in variables.get("GLIBC_TUNABLES", ""):
        return False
    libc = _glibc()
    return libc is not None and all(
        [libc.mallopt(option, value) == 1 for option, value in _MALLOC_OPTIONS.values()]
    )


def _glibc() -> ctypes.CDLL | None:
    """The C library of this process, if it is glibc."""
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    return libc if hasattr(libc, "gnu_get_libc_version") else None
