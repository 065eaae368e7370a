"""Callbacks of a node run one after the other, whatever one of them raises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from rclpy.node import Node

from pose_node.errors import PoseNodeError
from pose_node.ros.spinning import Spinner

pytestmark = pytest.mark.ros


@pytest.fixture
def node(ros: Any) -> Iterator[Node]:
    made = ros.create_node("spun")
    yield made
    made.destroy_node()


def raise_once_in_two(error: Exception, calls: list[int]) -> Callable[[], None]:
    def call() -> None:
        calls.append(len(calls))
        if calls[-1] % 2 == 0:
            raise error

    return call


def test_a_callback_that_fails_does_not_end_the_others(
    node: Node, read_log: Callable[[], str]
) -> None:
    calls: list[int] = []
    node.create_timer(0.001, raise_once_in_two(ZeroDivisionError("odd"), calls))
    spinner = Spinner(node)
    while len(calls) < 6:
        assert spinner.turn()
    log = read_log()
    assert log.count("a callback failed: Traceback") == 1  # of three: throttled
    assert "ZeroDivisionError: odd" in log


def test_what_is_fatal_passes_through(node: Node) -> None:
    node.create_timer(0.001, raise_once_in_two(PoseNodeError("cannot be written"), []))
    spinner = Spinner(node, fatal=(PoseNodeError,))
    with pytest.raises(PoseNodeError, match="cannot be written"):
        spinner.turn(10)


def test_it_ends_with_the_context(ros: Any, node: Node) -> None:
    spinner = Spinner(node)
    assert spinner.turn(0.01)
    ros.shutdown()
    assert not spinner.turn(0.01)
