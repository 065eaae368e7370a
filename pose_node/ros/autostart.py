"""Walks the node to active, or back to where it was, without being asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from rclpy.lifecycle import TransitionCallbackReturn

from pose_node.ros.node import PoseNode
from pose_node.ros.recovery import Pauses


class Autostart:
    """Configures and activates a node; again after a pause, if only its device was in the way.

    Args:
        node: unconfigured.
        now: the clock, in seconds.
        goal: "active", or "inactive" for a node that is only configured.

    Attributes:
        goal: as given.
        done: the walk is over: where the node stands from now on is the doing of others.
    """

    def __init__(
        self,
        node: PoseNode,
        now: Callable[[], float] = time.monotonic,
        *,
        goal: Literal["active", "inactive"] = "active",
    ) -> None:
        self._node = node
        self._pauses = Pauses(now)
        self.goal = goal
        self.done = False

    def step(self) -> bool:
        """Try it if it is time for that. Returns whether there is any hope."""
        if self.done or self._pauses.left():
            return True
        if self._node.state_name != "unconfigured":  # somebody else was faster
            self.done = True
            return True
        success = TransitionCallbackReturn.SUCCESS
        if self._node.trigger_configure() == success:
            self.done = True
            return self.goal == "inactive" or self._node.trigger_activate() == success
        if not self._node.fails_for_now:
            return False
        self._node.get_logger().info(f"next attempt in {self._pauses.begin():g} s")
        return True
