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
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState

from pose_node.ros.shared_memory import held_ports
from tests.ros.process_bench import Process, Robot

pytestmark = pytest.mark.ros

OK = DiagnosticStatus.OK


def locks_of(process: int) -> set[Path]:
    """The lock files in shared memory that a process holds open for its segments."""
    found = set()
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except FileNotFoundError:
            continue
        if re.fullmatch(r"/dev/shm/fast(dds|rtps)_[0-9a-f]{16}_el", target):
            found.add(Path(target))
    return found


def ports_of(process: int) -> set[Path]:
    """The ports in shared memory of a process."""
    return {Path(port) for port in held_ports(Path(f"/proc/{process}"))}


def test_killed_and_started_again(start_faulty: Callable[..., Process], robot: Robot) -> None:
    robot.watch()
    process = start_faulty()
    left: list[Path] = []
    for _ in range(3):
        robot.wait_for_node()
        robot.ask()
        robot.wait_for(OK, "working")
        left += locks_of(process.popen.pid)
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
    held = locks_of(process.popen.pid)
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


def test_a_node_whose_ports_were_taken_away_starts_anew(
    start_faulty: Callable[..., Process], robot: Robot
) -> None:
    """A race of Fast DDS after a process was killed; see pose_node/ros/shared_memory.py."""
    robot.watch()
    process = start_faulty()
    robot.wait_for_node()
    robot.ask()
    taken = ports_of(process.popen.pid)
    assert taken, "no ports in shared memory: is this Fast DDS?"
    for port in taken:
        port.unlink()
    assert robot.wait(lambda: "starts anew" in process.output)
    assert robot.wait(lambda: process.output.count("faulty by none on cuda:0") == 2)
    robot.poses.clear()
    robot.ask()
    held = ports_of(process.popen.pid)
    assert held
    assert all(port.exists() for port in held)
    assert process.output.count("starts anew") == 1
    assert process.end(signal.SIGINT) == 0


def test_a_node_that_a_manager_made_active_is_active_again(
    start_faulty: Callable[..., Process], robot: Robot
) -> None:
    robot.watch()
    process = start_faulty("autostart:=false")
    client = robot.node.create_client(ChangeState, "pose_node/change_state")
    assert robot.wait(client.service_is_ready)
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        answer = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
        assert robot.wait(answer.done)
        assert answer.result().success
    robot.ask()
    for port in ports_of(process.popen.pid):
        port.unlink()
    assert robot.wait(lambda: "starts anew" in process.output)
    robot.poses.clear()
    robot.ask()
    assert process.end(signal.SIGINT) == 0


def test_a_port_that_a_killed_process_left_half_made_holds_nobody_up(
    start_faulty: Callable[..., Process], robot: Robot
) -> None:
    ours = ports_of(os.getpid())
    assert ours, "no ports in shared memory: is this Fast DDS?"
    # Of each kind the next ones, of which the node will want the first that is free.
    left = [
        port.with_name(re.sub(r"\d+", str(int(re.sub(r"\D", "", port.name)) + step), port.name))
        for port in ours
        for step in range(1, 9)
    ]
    left = [port for port in left if not port.exists()]
    try:
        for port in left:
            port.write_bytes(bytes(52_400))
            os.utime(port, (0, 0))
        process = start_faulty()
        robot.watch().wait_for_node()
        robot.ask()
        assert ports_of(process.popen.pid) & set(left)
        assert process.end(signal.SIGINT) == 0
    finally:
        for port in left:
            port.unlink(missing_ok=True)
