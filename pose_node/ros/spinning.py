"""Runs what a node is called for, whatever one of the calls raises."""

from __future__ import annotations

import traceback

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from pose_node.ros.throttle import Throttle


class Spinner:
    """Runs the callbacks of a node in the calling thread.

    What one of them raises is logged, and the others go on: a strange message, or a transition that
    is not possible now (for which rclpy of Jazzy raises), shall not end the process.

    Args:
        node: whose callbacks.
        fatal: what passes through instead.
    """

    def __init__(self, node: Node, *, fatal: tuple[type[Exception], ...] = ()) -> None:
        self._node = node
        self._fatal = fatal
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._throttle = Throttle(seconds=5.0)

    def turn(self, seconds: float = 0.2) -> bool:
        """Run a callback that is due, or wait for one.

        Args:
            seconds: longest time to wait.

        Returns:
            False once the context has ended.
        """
        if not rclpy.ok():
            return False
        try:
            self._executor.spin_once(timeout_sec=seconds)
        except ExternalShutdownException:
            return False
        except self._fatal:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the next call gets its chance
            if self._throttle.lets_through(type(error).__name__):
                lines = "".join(traceback.format_exception(error))
                self._node.get_logger().error(f"a callback failed: {lines}")
        return True
