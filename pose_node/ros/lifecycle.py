"""Transitions of a lifecycle node that say what went wrong."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import TypeVar

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

NodeType = TypeVar("NodeType", bound=LifecycleNode)
Transition = Callable[[NodeType, LifecycleState], TransitionCallbackReturn]


def with_reason(transition: Transition[NodeType]) -> Transition[NodeType]:
    """Decorates a transition: rclpy swallows what it raises without a word, so log it."""

    @functools.wraps(transition)
    def run(node: NodeType, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not stay unknown
            lines = "".join(traceback.format_exception(error))
            node.get_logger().error(f"cannot {transition.__name__.removeprefix('on_')}: {lines}")
            return TransitionCallbackReturn.ERROR

    return run
