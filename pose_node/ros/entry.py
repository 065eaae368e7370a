"""Starts the processes of this package, so that a signal ends them cleanly from the first moment.

Importing ROS and torch takes a second or more. This module needs the standard library only, and
imports the process itself when the signals are taken care of::

    python -m pose_node.ros.entry camera video.mp4
"""

from __future__ import annotations

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


def end_quietly(name: str) -> None:
    """From now on a signal ends this process, one of `PROCESSES`, as it would end its work."""
    end_at_once(PROCESSES[name][1])


def start(name: str, args: Sequence[str] | None = None) -> int:
    """Run a process until its end.

    Args:
        name: one of `PROCESSES`.
        args: command line without the program's name; that of this process by default.

    Returns:
        Its exit code.
    """
    end_quietly(name)
    main: Callable[[Sequence[str] | None], int] = import_module(PROCESSES[name][0]).main
    return main(args)


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in PROCESSES:
        sys.exit(start(sys.argv[1], sys.argv[2:]))
    sys.exit(f"usage: python -m pose_node.ros.entry {{{','.join(PROCESSES)}}} [arguments]")
