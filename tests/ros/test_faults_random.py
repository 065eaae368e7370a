"""Parameters and lifecycle turned at random while images flow: the node stays a node."""

from __future__ import annotations

import dataclasses
import random
import signal
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from pose_node.ros.parameters import NodeParameters
from tests.ros.faulty_node import BUG
from tests.ros.process_bench import Robot

pytestmark = pytest.mark.ros

OK = DiagnosticStatus.OK
# At the end all have their defaults again; these would make the test itself wait or deaf.
LEFT_ALONE = {"diagnostics_period", "autostart"}
FIELDS = [item for item in dataclasses.fields(NodeParameters) if item.name not in LEFT_ALONE]
TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}


def call(robot: Robot, kind: type, name: str, request: Any, seconds: float = 30.0) -> Any:
    """Call a service of the node, with images coming meanwhile; None without an answer."""
    client = robot.node.create_client(kind, f"pose_node/{name}")
    try:
        assert robot.wait(client.service_is_ready)
        future = client.call_async(request)

        def answered() -> bool:
            robot.send()
            return bool(future.done())

        return future.result() if robot.wait(answered, seconds) else None
    finally:
        robot.node.destroy_client(client)


def set_parameter(robot: Robot, name: str, value: Any) -> bool:
    parameter = Parameter(name, value=value).to_parameter_msg()
    request = SetParameters.Request(parameters=[parameter])
    return bool(call(robot, SetParameters, "set_parameters", request).results[0].successful)


def change_state(robot: Robot, name: str) -> bool:
    request = ChangeState.Request(transition=Transition(id=TRANSITIONS[name]))
    # rclpy of Jazzy does not answer at all where the transition is not possible.
    answer = call(robot, ChangeState, "change_state", request, seconds=0.5)
    return answer is not None and bool(answer.success)


def state(robot: Robot) -> int:
    return int(call(robot, GetState, "get_state", GetState.Request()).current_state.id)


def any_value(chance: random.Random, default: Any) -> Any:
    """A value that may be right, out of range, or of another type."""
    if chance.random() < 0.2:
        return chance.choice([True, -1, 2**40, 1e30, float("nan"), "", "x" * 5000, ["a", "b"], []])
    if isinstance(default, bool):
        return chance.random() < 0.5
    if isinstance(default, int):
        return chance.choice([0, 1, 5, default, 10**6])
    if isinstance(default, float):
        return chance.choice([0.0, 1.0, default, chance.random(), 100.0])
    return list(default) if isinstance(default, tuple) else default


def to_ros(default: Any) -> Any:
    return list(default) if isinstance(default, tuple) else default


def restore(robot: Robot) -> None:
    """Back to the defaults; in several rounds, as some limit each other."""
    for _ in range(3):
        for item in FIELDS:
            set_parameter(robot, item.name, to_ros(item.default))


def turn(robot: Robot, seed: int, steps: int) -> None:
    chance = random.Random(seed)
    for _ in range(steps):
        if chance.random() < 0.1:
            robot.send(value=BUG)
        item = chance.choice(FIELDS)
        set_parameter(robot, item.name, any_value(chance, item.default))


@pytest.mark.parametrize(
    ("seed", "steps"), [(1, 150), pytest.param(2, 3000, marks=pytest.mark.long)]
)
def test_parameters(start_faulty: Callable[..., Any], robot: Robot, seed: int, steps: int) -> None:
    process = start_faulty()
    robot.watch().wait_for_node()
    robot.ask()
    turn(robot, seed, steps)
    assert process.is_alive
    restore(robot)
    robot.poses.clear()
    assert len(robot.ask().people) == 2
    robot.wait_for(OK, "working", "node")
    assert process.end(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("seed", "steps"), [(3, 40), pytest.param(4, 1000, marks=pytest.mark.long)]
)
def test_lifecycle(start_faulty: Callable[..., Any], robot: Robot, seed: int, steps: int) -> None:
    process = start_faulty()
    robot.watch().wait_for_node()
    robot.ask()
    chance = random.Random(seed)
    names = list(TRANSITIONS)
    done = [name for name in chance.choices(names, k=steps) if change_state(robot, name)]
    assert set(done) == set(names)
    assert process.is_alive
    while state(robot) != State.PRIMARY_STATE_ACTIVE:
        change_state(robot, "configure")
        change_state(robot, "activate")
    robot.poses.clear()
    assert len(robot.ask().people) == 2
    robot.wait_for(OK, "working", "node")
    assert process.end(signal.SIGINT) == 0
