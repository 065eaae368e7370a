"""The process of the node: ROS started, the lifecycle walked, and a clean end."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from pose_node.ros.autostart import Autostart
from pose_node.ros.loading import LoadPipeline, load_pipeline
from pose_node.ros.node import PoseNode
from pose_node.ros.python_logging import forwarded_to
from pose_node.ros.shared_memory import PortWatch, kept_from_fast_dds
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
    ending = _live(args, load, signalled, warnings)
    lost: set[str] = set()
    while ending.lost_ports:
        gc.collect()  # the last of the old node's handles: until then DDS keeps its participant
        lost |= ending.lost_ports
        ending = _live(args, load, signalled, avoid=lost, activate=ending.was_active)
    return ending.code


@dataclass(frozen=True)
class _Ending:
    """How a life of the node ended; with lost ports another one must follow."""

    code: int
    lost_ports: AbstractSet[str] = frozenset()
    was_active: bool = False


def _live(
    args: Sequence[str] | None,
    load: LoadPipeline,
    signalled: Sequence[int],
    warnings: Sequence[str] = (),
    *,
    avoid: AbstractSet[str] = frozenset(),
    activate: bool = False,
) -> _Ending:
    """Start ROS and work until the end, active without being asked if `activate`."""
    with kept_from_fast_dds(avoid):
        node = _make_node(args, load)
    try:
        if node is None:
            return _Ending(1)
        for warning in warnings:
            node.get_logger().warning(warning)
        walks = activate or node.parameters.autostart
        with forwarded_to(node.get_logger()):
            return _spin(node, signalled, Autostart(node) if walks else None)
    finally:
        hangs = False
        if node is not None:
            node.destroy_node()
            hangs = node.hangs
        rclpy.try_shutdown()
        if hangs:  # a clean end would wait for a thread that never ends
            os._exit(1)


def _spin(node: PoseNode, signalled: Sequence[int], autostart: Autostart | None) -> _Ending:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    throttle = Throttle(seconds=5.0)
    ports = PortWatch()
    while not signalled and rclpy.ok():
        if lost := ports.lost():
            node.get_logger().error(
                "Fast DDS has lost shared memory of this process, as can happen after a process "
                "was killed, and nothing would arrive any more: the node starts anew"
            )
            return _Ending(0, lost, node.state_name == "active")
        if autostart is not None and not autostart.step():
            return _Ending(1)
        try:
            executor.spin_once(timeout_sec=0.2)
        except ExternalShutdownException:
            break
        except Exception as error:  # noqa: BLE001 - a request shall not end the process
            # rclpy of Jazzy raises where a transition is asked for that is not possible.
            if throttle.lets_through(type(error).__name__):
                lines = "".join(traceback.format_exception(error))
                node.get_logger().error(f"a callback failed: {lines}")
    return _Ending(0)


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
