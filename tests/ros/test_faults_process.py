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
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters
from std_srvs.srv import SetBool

from pose_node.ros.node_process import NewStarts
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_node_that_loads_its_network_can_be_ended(
    start_faulty: Callable[..., Process], robot: Robot, tmp_path: Path, number: int
) -> None:
    (tmp_path / "empty").touch()
    process = start_faulty(environment={"FAULTY_LOADS": str(tmp_path / "empty")})
    assert robot.wait(lambda: "loading for ever" in process.output)
    assert process.end(number) == 0


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
    robot.change_state(
        inactive=Transition.TRANSITION_CONFIGURE, active=Transition.TRANSITION_ACTIVATE
    )
    robot.ask()
    for port in ports_of(process.popen.pid):
        port.unlink()
    assert robot.wait(lambda: "starts anew" in process.output)
    robot.poses.clear()
    robot.ask()
    assert process.end(signal.SIGINT) == 0


def test_a_node_that_rests_goes_on_resting(
    start_faulty: Callable[..., Process], robot: Robot
) -> None:
    """What somebody switched off, perhaps for good reasons, is not switched on by a new start."""
    robot.watch()
    process = start_faulty()
    robot.wait_for_node()
    threshold = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=0.625)
    request = SetParameters.Request(parameters=[Parameter(name="score_threshold", value=threshold)])
    assert robot.call(SetParameters, "pose_node/set_parameters", request).results[0].successful
    assert robot.call(SetBool, "pose_node/enable", SetBool.Request(data=False)).success
    robot.change_state(inactive=Transition.TRANSITION_DEACTIVATE)
    for port in ports_of(process.popen.pid):
        port.unlink()
    assert robot.wait(lambda: process.output.count("faulty by none on cuda:0") == 2)
    wanted = GetParameters.Request(names=["score_threshold"])
    answer = robot.call(GetParameters, "pose_node/get_parameters", wanted)
    assert answer.values[0].double_value == 0.625
    assert robot.state() == "inactive"
    robot.change_state(active=Transition.TRANSITION_ACTIVATE)
    robot.wait_for(OK, "disabled", "node")
    assert process.end(signal.SIGINT) == 0


def test_new_starts_have_an_end() -> None:
    seconds = [0.0]
    new_starts = NewStarts(lambda: seconds[0])
    assert [new_starts.allow() for _ in range(5)] == [True, True, True, False, False]
    seconds[0] = 601.0
    assert new_starts.allow()


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
