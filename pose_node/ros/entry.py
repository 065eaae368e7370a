"""Starts the processes of this package, so that a signal ends them cleanly from the first moment.

Importing ROS and torch takes a second or more. This module needs the standard library only, and
imports the process itself when the signals are taken care of::

    python -m pose_node.ros.entry camera video.mp4
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from pose_node.ros.signals import end_at_once

PROCESSES = {
    "run": ("pose_node.ros.node_process", 0),
    "camera": ("pose_node.ros.camera", 0),
    "demo": ("pose_node.ros.demo", 130),
    "exercise": ("pose_node.ros.exercise", 0),
    "view --live": ("pose_node.ros.viewing", 0),
}
"""By command of `pose-node`: the module with the process's `main`, its exit code after a signal."""


LOG_LEVELS = ("debug", "info", "warn", "error")

# Loggers of ROS itself that say something for every message and every turn of the executor.
_TALKATIVE = ("rcl", "rcl_lifecycle", "rmw_fastrtps_cpp", "rmw_fastrtps_shared_cpp", "rclpy")


def with_log_level(args: Sequence[str]) -> list[str]:
    """Put ``--log-level LEVEL`` into the words of ROS; it may stand anywhere before ``--ros-args``.

    Unlike the same words after ``--ros-args``, "debug" holds for the loggers of nodes only.

    Args:
        args: command line without the program's name.

    Raises:
        ValueError: there is no such level.
    """
    ours, ros = list(args), []
    if "--ros-args" in ours:
        start = ours.index("--ros-args")
        ours, ros = ours[:start], ours[start:]
    level = None
    for index, text in enumerate(ours):
        name, equals, value = text.partition("=")
        if name == "--log-level":
            count = 1 if equals else 2
            level = value if equals else "".join(ours[index + 1 : index + 2])
            del ours[index : index + count]
            break
    if level is None:
        return list(args)
    if level not in LOG_LEVELS:
        raise ValueError(f"--log-level must be one of {', '.join(LOG_LEVELS)}, got {level!r}")
    # First, so that what stands after --ros-args wins.
    words = ["--ros-args", "--log-level", level]
    if level == "debug":
        words += [word for name in _TALKATIVE for word in ("--log-level", f"{name}:=info")]
    return [*ours, *words, "--", *ros] if ros else [*ours, *words]


def end_quietly(name: str) -> None:
    """From now on a signal ends this process, one of `PROCESSES`, as it would end its work."""
    end_at_once(PROCESSES[name][1])


def start(name: str, args: Sequence[str] | None = None) -> int:
    """Run a process until its end.

    Args:
        name: one of `PROCESSES`.
        args: command line without the program's name; that of this process by default.

    Returns:
        Its exit code; 2 for a wrong ``--log-level``.
    """
    end_quietly(name)
    if name == "run":  # OpenCV has lines for each damaged image; ours are throttled
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    try:
        arguments = with_log_level(sys.argv[1:] if args is None else args)
    except ValueError as error:
        print(f"pose-node {name}: error: {error}", file=sys.stderr)
        return 2
    main: Callable[[Sequence[str] | None], int] = import_module(PROCESSES[name][0]).main
    return main(arguments)


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in PROCESSES:
        sys.exit(start(sys.argv[1], sys.argv[2:]))
    sys.exit(f"usage: python -m pose_node.ros.entry {{{','.join(PROCESSES)}}} [arguments]")
