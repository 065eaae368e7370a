"""The node is killed and started again: it goes on, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from diagnostic_msgs.msg import DiagnosticStatus

from tests.ros.process_bench import Process, Robot

pytestmark = pytest.mark.ros

OK = DiagnosticStatus.OK


def locks_of(process: Process) -> set[Path]:
    """The lock files in shared memory that a process holds open for its segments."""
    found = set()
    for descriptor in Path(f"/proc/{process.popen.pid}/fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except FileNotFoundError:
            continue
        if re.fullmatch(r"/dev/shm/fast(dds|rtps)_[0-9a-f]{16}_el", target):
            found.add(Path(target))
    return found


def test_killed_and_started_again(start_faulty: Callable[..., Process], robot: Robot) -> None:
    robot.watch()
    process = start_faulty()
    left: list[Path] = []
    for _ in range(3):
        robot.wait_for_node()
        robot.ask()
        robot.wait_for(OK, "working")
        left += locks_of(process)
        assert process.end(signal.SIGKILL) == -signal.SIGKILL
        robot.poses.clear()
        for lock in left:  # as if it had lived for some seconds
            if lock.exists():
                os.utime(lock, (0, 0))
        process = start_faulty()
    robot.ask()
    assert len(left) >= 3, "no segments in shared memory: is this Fast DDS?"
    assert [path for path in left if path.exists()] == []
    assert [path for path in left if path.with_name(path.name[:-3]).exists()] == []
    held = locks_of(process)
    assert held
    assert process.end(signal.SIGINT) == 0
    assert [path for path in held if path.exists()] == []


def test_the_end_of_a_node_that_is_asked_to_end_is_clean_at_any_time(
    start_faulty: Callable[..., Process], robot: Robot, tmp_path: Path
) -> None:
    error = tmp_path / "error"
    error.write_text("CUDA error: gone")
    process = start_faulty(environment={"FAULTY_LOADS": str(error)})
    robot.watch()
    robot.wait_for(DiagnosticStatus.ERROR, "no network", "node")
    assert process.end(signal.SIGTERM) == 0
