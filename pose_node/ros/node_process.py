"""The process of the node: ROS started, the lifecycle walked, and a clean end."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from pose_node.ros.autostart import Autostart
from pose_node.ros.loading import LoadPipeline, load_pipeline
from pose_node.ros.node import PoseNode
from pose_node.ros.python_logging import forwarded_to
from pose_node.ros.signals import note_signals
from pose_node.ros.throttle import Throttle
from pose_node.ros.transport import prepare_process


def main(args: Sequence[str] | None = None, load: LoadPipeline = load_pipeline) -> int:
    """Run the node until Ctrl-C, SIGTERM or the end of the context.

    Args:
        args: command line without the program's name; that of the process by default.
        load: see `PoseNode`.

    Returns:
        The exit code: 0 after a clean end, 1 if the node cannot start.
    """
    warnings = prepare_process()
    signalled = note_signals()
    node = _make_node(args, load)
    try:
        if node is None:
            return 1
        for warning in warnings:
            node.get_logger().warning(warning)
        with forwarded_to(node.get_logger()):
            return _spin(node, signalled)
    finally:
        hangs = False
        if node is not None:
            node.destroy_node()
            hangs = node.hangs
        rclpy.try_shutdown()
        if hangs:  # a clean end would wait for a thread that never ends
            os._exit(1)


def _spin(node: PoseNode, signalled: Sequence[int]) -> int:
    """Work until the end; returns the exit code."""
    autostart = Autostart(node) if node.parameters.autostart else None
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    throttle = Throttle(seconds=5.0)
    while not signalled and rclpy.ok():
        if autostart is not None and not autostart.step():
            return 1
        try:
            executor.spin_once(timeout_sec=0.2)
        except ExternalShutdownException:
            break
        except Exception as error:  # noqa: BLE001 - a request shall not end the process
            # rclpy of Jazzy raises where a transition is asked for that is not possible.
            if throttle.lets_through(type(error).__name__):
                lines = "".join(traceback.format_exception(error))
                node.get_logger().error(f"a callback failed: {lines}")
    return 0


def _make_node(args: Sequence[str] | None, load: LoadPipeline) -> PoseNode | None:
    """Start ROS and make the node; None if the arguments are wrong, which is then printed."""
    try:
        rclpy.init(
            args=None if args is None else ["pose_node", *args],
            signal_handler_options=SignalHandlerOptions.NO,
        )
        return PoseNode(load)
    except (ValueError, ParameterException) as error:
        print(f"pose_node: error: {error}", file=sys.stderr)
    except RuntimeError as error:  # of rclpy, whose own classes for it are private
        print(f"pose_node: error: ROS cannot start with these arguments: {error}", file=sys.stderr)
    return None
