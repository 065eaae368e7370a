"""Clocks that are set, and simulated time."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header

from tests.ros.process_bench import Robot, grey_image, stamp_of

pytestmark = pytest.mark.ros

OK, WARN = DiagnosticStatus.OK, DiagnosticStatus.WARN


def answer(robot: Robot, seconds: float) -> None:
    """Send an image of this time until it is answered; the answer has the same stamp."""
    stamp = Time(sec=int(seconds), nanosec=round(seconds % 1 * 1e9))
    message = grey_image(header=Header(stamp=stamp, frame_id="camera"))

    def answered() -> bool:
        robot.send(message)
        return any(stamp_of(poses) == stamp_of(message) for poses in robot.poses)

    robot.poses.clear()
    assert robot.wait(answered)


@pytest.mark.parametrize(
    ("jump", "words"), [(3600.0, "ahead by 3600."), (-7200.0, "back by 7200.")]
)
def test_a_clock_of_a_camera_that_is_set(
    start_faulty: Callable[..., Any], robot: Robot, jump: float, words: str
) -> None:
    process = start_faulty()
    robot.watch().wait_for_node()
    now = robot.node.get_clock().now().nanoseconds / 1e9
    answer(robot, now)
    robot.wait_for(OK, "working")
    answer(robot, now + jump)
    status = robot.wait_for(WARN, "stamps jumped")
    assert words in status.message
    answer(robot, now + jump + 0.1)
    assert process.end(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("shift", "condition"), [(5.0, "stamps ahead"), (-5.0, "old images"), (-1e7, "old images")]
)
def test_clocks_that_differ(
    start_faulty: Callable[..., Any], robot: Robot, shift: float, condition: str
) -> None:
    process = start_faulty()
    robot.watch().wait_for_node()
    answer(robot, robot.node.get_clock().now().nanoseconds / 1e9 + shift)
    robot.wait_for(WARN, condition)
    assert robot.wait(lambda: f'condition="{condition}"' in process.output)
    assert process.end(signal.SIGINT) == 0


def test_simulated_time(start_faulty: Callable[..., Any], robot: Robot) -> None:
    process = start_faulty("use_sim_time:=true")
    robot.watch().wait_for_node()
    clock = robot.publisher("/clock", Clock)
    assert robot.wait(lambda: clock.get_subscription_count() > 0)

    def set_clock(seconds: int) -> None:
        clock.publish(Clock(clock=Time(sec=seconds)))

    # Time stands still at 100 s, and images of that time are fresh.
    robot.wait_for(OK, "working", meanwhile=lambda: (set_clock(100), answer(robot, 100.0)))
    # The simulation starts over: time jumps back, and images go on being answered.
    robot.wait_for(WARN, "stamps jumped", meanwhile=lambda: (set_clock(1), answer(robot, 1.0)))
    answer(robot, 1.5)
    assert process.end(signal.SIGINT) == 0


def test_a_camera_that_does_not_know_of_simulated_time(
    start_faulty: Callable[..., Any], robot: Robot
) -> None:
    process = start_faulty("use_sim_time:=true")
    robot.watch().wait_for_node()
    clock = robot.publisher("/clock", Clock)
    assert robot.wait(lambda: clock.get_subscription_count() > 0)
    status = robot.wait_for(
        WARN,
        "stamps ahead",
        meanwhile=lambda: (clock.publish(Clock(clock=Time(sec=100))), robot.send()),
    )
    assert "use_sim_time" in status.message
    assert process.end(signal.SIGINT) == 0


def test_images_without_stamp(start_faulty: Callable[..., Any], robot: Robot) -> None:
    process = start_faulty()
    robot.watch().wait_for_node()
    answer(robot, 0.0)
    robot.wait_for(WARN, "no stamps")
    assert process.end(signal.SIGINT) == 0
