"""Prepare a process for camera images: shared memory of the middleware, malloc, threads.

These are process-wide settings that must be made before ROS starts, so every `main()` calls
`prepare_process()` first and importing this module changes nothing.

Measured on two cores with Kilted, 150 images of 1280x720 at 30 Hz between two processes, median
from stamp to callback: by default 118 arrive after 28 ms (reliable) or 15 after 9 ms (best effort);
with the profile all arrive, after 9 ms; with malloc tuned on both sides too, after 2.5 ms.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import MutableMapping
from importlib.util import find_spec
from pathlib import Path

from pose_node.installation import find_installed
from pose_node.process_settings import malloc_variables, tune_process
from pose_node.ros.shared_memory import remove_half_made_ports, remove_stale_segments

PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""What Fast DDS 3 and Fast DDS 2 call the variable that names their profile file."""

_USER_PROFILES = ("DEFAULT_FASTDDS_PROFILES.xml", "DEFAULT_FASTRTPS_PROFILES.xml")
_FAST_DDS = ("", "rmw_fastrtps_cpp", "rmw_fastrtps_dynamic_cpp")
_DISTRIBUTIONS_WITH_FAST_DDS_2 = ("humble", "iron", "jazzy")

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only asked how much is free
_MEBIBYTE = 1 << 20
_FULL_SEGMENT = 64 * _MEBIBYTE
# Two processes with a segment each, and some air.
_ENOUGH_SHARED_MEMORY = 160 * _MEBIBYTE
_SMALLEST_SEGMENT = 8 * _MEBIBYTE


def prepare_process(environment: MutableMapping[str, str] | None = None) -> list[str]:
    """Set the Fast DDS profile of this package and `tune_process`. Call it before `rclpy.init`.

    What killed processes left in shared memory is mended. The profile is left alone where the
    user has chosen: a profile file (by variable or in the working folder), built-in transports, or
    another middleware.

    Args:
        environment: the variables to read and set, by default those of this process.

    Returns:
        Warnings for the caller to log, each a sentence; empty if all is well.
    """
    variables = os.environ if environment is None else environment
    tune_process(variables)
    if variables.get("RMW_IMPLEMENTATION", "") in _FAST_DDS:
        remove_stale_segments()
        remove_half_made_ports()
    if _user_has_chosen(variables):
        return []
    profile, found = _choose_profile(variables)
    if profile is not None:
        variables[_profile_variable(variables)] = str(profile)
    return found


def transport_environment() -> dict[str, str]:
    """What a launch file sets for processes that send or receive images, also those of others.

    The profile as `prepare_process` chooses it, and the malloc settings. Empty where the user has
    chosen.
    """
    variables = dict(os.environ)
    if _user_has_chosen(variables):
        return {}
    profile, _ = _choose_profile(variables)
    chosen = {} if profile is None else {_profile_variable(variables): str(profile)}
    return chosen | malloc_variables()


def find_profile(environment: MutableMapping[str, str] | None = None) -> Path | None:
    """The installed config/fastdds.xml, or that of a source checkout; None if there is none."""
    return find_installed("config/fastdds.xml", environment)


def _user_has_chosen(variables: MutableMapping[str, str]) -> bool:
    return (
        variables.get("RMW_IMPLEMENTATION", "") not in _FAST_DDS
        or any(
            variables.get(name) and not _is_ours(variables[name], variables)
            for name in PROFILE_VARIABLES
        )
        or bool(variables.get("FASTDDS_BUILTIN_TRANSPORTS"))
        or any(Path(name).is_file() for name in _USER_PROFILES)
    )


def _is_ours(profile: str, variables: MutableMapping[str, str]) -> bool:
    """Whether a profile is one of this package, set by a launch file or a parent process."""
    path, installed = Path(profile).resolve(), find_profile(variables)
    if installed is not None and path == installed.resolve():
        return True
    written = path.parent == _cache_folder(variables).resolve()
    return written and bool(re.fullmatch(r"fastdds_\d+_mib\.xml", path.name))


def _profile_variable(variables: MutableMapping[str, str]) -> str:
    """The one that the Fast DDS here reads: version 3 warns of the old name, 2 ignores the new."""
    distribution = variables.get("ROS_DISTRO")
    if distribution:
        old = distribution in _DISTRIBUTIONS_WITH_FAST_DDS_2
    else:
        old = find_spec("fastrtps") is not None  # The wheels say it by the name of their folder.
    return PROFILE_VARIABLES[1 if old else 0]


def _choose_profile(variables: MutableMapping[str, str]) -> tuple[Path | None, list[str]]:
    """The profile file to use, if any, and warnings."""
    profile = find_profile(variables)
    if profile is None:
        return None, [
            "config/fastdds.xml of pose_node is not installed: images from other processes may "
            "come late or get lost"
        ]
    free = _free_shared_memory()
    if free >= _ENOUGH_SHARED_MEMORY:
        return profile, []
    segment = free // 4 // _MEBIBYTE * _MEBIBYTE
    warning = (
        f"{_SHARED_MEMORY} has only {free // _MEBIBYTE} MiB free, {_ENOUGH_SHARED_MEMORY >> 20} "
        "are wanted: large images may come late or get lost. In a container use "
        "`docker run --shm-size=512m`, or `--ipc=host` to share images with the host"
    )
    if segment < _SMALLEST_SEGMENT:
        return None, [warning]
    try:
        return _write_profile(profile, segment, _cache_folder(variables)), [warning]
    except OSError as error:
        return None, [f"{warning}. A profile for less cannot be written: {error}"]


def _free_shared_memory() -> int:
    try:
        status = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize


def _write_profile(profile: Path, segment: int, folder: Path) -> Path:
    """A copy of `profile` with a smaller segment; whole at any time, as others may be reading."""
    text = profile.read_text(encoding="utf-8")
    text = re.sub(r"(<segment_size>)\d+", rf"\g<1>{segment}", text)
    text = re.sub(r"(<maxMessageSize>)\d+", rf"\g<1>{min(segment // 4, 16 * _MEBIBYTE)}", text)
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)  # whatever the umask permits others
    target = folder / f"fastdds_{segment // _MEBIBYTE}_mib.xml"
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=folder, delete=False) as file:
        file.write(text)
    Path(file.name).replace(target)
    return target


def _cache_folder(variables: MutableMapping[str, str]) -> Path:
    cache = variables.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "pose_node"
