"""Walks the node to active, without being asked."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.lifecycle import TransitionCallbackReturn

from pose_node.ros.node import PoseNode
from pose_node.ros.recovery import Pauses


class Autostart:
    """Configures and activates a node; again after a pause, if only its device was in the way.

    Args:
        node: unconfigured.
        now: the clock, in seconds.
    """

    def __init__(self, node: PoseNode, now: Callable[[], float] = time.monotonic) -> None:
        self._node = node
        self._pauses = Pauses(now)
        self._done = False

    def step(self) -> bool:
        """Try it if it is time for that. Returns whether there is any hope."""
        if self._done or self._pauses.left():
            return True
        if self._node.state_name != "unconfigured":  # somebody else was faster
            self._done = True
            return True
        success = TransitionCallbackReturn.SUCCESS
        if self._node.trigger_configure() == success:
            self._done = True
            return self._node.trigger_activate() == success
        if not self._node.fails_for_now:
            return False
        self._node.get_logger().info(f"next attempt in {self._pauses.begin():g} s")
        return True
