"""The process of the node: ROS started, the lifecycle walked, and a clean end."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from pose_node.ros.autostart import Autostart
from pose_node.ros.loading import LoadPipeline, load_pipeline
from pose_node.ros.node import PoseNode
from pose_node.ros.python_logging import forwarded_to
from pose_node.ros.shared_memory import (
    PortWatch,
    held_ports,
    kept_from_fast_dds,
    remove_half_made_ports,
    remove_stale_segments,
)
from pose_node.ros.signals import note_signals
from pose_node.ros.spinning import Spinner
from pose_node.ros.transport import prepare_process

_MOST_NEW_STARTS, _IN_SECONDS = 3, 600.0


def main(args: Sequence[str] | None = None, load: LoadPipeline = load_pipeline) -> int:
    """Run the node until Ctrl-C, SIGTERM or the end of the context.

    Args:
        args: command line without the program's name; that of the process by default.
        load: see `PoseNode`.

    Returns:
        The exit code: 0 after a clean end, 1 if the node cannot start.
    """
    warnings = prepare_process()
    lives = _Lives(args, load, note_signals())
    ending = lives.live(warnings=warnings)
    while isinstance(ending, _Lost):
        gc.collect()  # the last of the old node's handles: until then DDS keeps its participant
        remove_stale_segments()
        remove_half_made_ports()
        ending = lives.live(ending)
    return ending


class NewStarts:
    """Allows a few new starts in a while: what they do not heal they shall not make worse.

    Args:
        now: the clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._times: deque[float] = deque(maxlen=_MOST_NEW_STARTS)

    def allow(self) -> bool:
        """Whether there may be one now, which is then counted."""
        now = self._now()
        if len(self._times) == _MOST_NEW_STARTS and now - self._times[0] < _IN_SECONDS:
            return False
        self._times.append(now)
        return True


@dataclass(frozen=True)
class _Lost:
    """How a life of the node ended whose ports were lost, and from where the next one goes on.

    Attributes:
        ports: the paths of all that were lost so far.
        state: of the lifecycle, or to which the node was walking by itself.
        enabled: whether images were processed.
        parameters: as they were last.
    """

    ports: AbstractSet[str]
    state: str
    enabled: bool
    parameters: list[Parameter[Any]]


class _Lives:
    """The lives of the node in this process: one, unless its ports are lost.

    Args:
        args, load: see `main`.
        signalled: grows when a signal comes.
    """

    def __init__(
        self, args: Sequence[str] | None, load: LoadPipeline, signalled: Sequence[int]
    ) -> None:
        self._args = args
        self._load = load
        self._signalled = signalled
        # Open files that a parent process left open to us: not ours to lose.
        self._inherited = held_ports()
        self._new_starts = NewStarts()

    def live(self, before: _Lost | None = None, *, warnings: Sequence[str] = ()) -> int | _Lost:
        """Start ROS and work until the end.

        Args:
            before: what to go on from.
            warnings: for the log.

        Returns:
            The exit code, or what another life has to go on from.
        """
        lost = set() if before is None else before.ports
        with kept_from_fast_dds(lost):
            node = self._make_node(before)
        if node is None:
            rclpy.try_shutdown()
            return 1
        ending: int | _Lost = 1
        try:
            for warning in warnings:
                node.get_logger().warning(warning)
            with forwarded_to(node.get_logger()):
                ending = self._spin(node, _walk(node, before), lost)
        finally:
            node.destroy_node()
            rclpy.try_shutdown()
            if node.hangs or node.is_loading:  # a clean end would wait for a thread of the device
                os._exit(1 if node.hangs or ending else 0)
        return ending

    def _make_node(self, before: _Lost | None) -> PoseNode | None:
        """Start ROS and make the node; None if the arguments are wrong, which is then printed."""
        try:
            rclpy.init(
                args=None if self._args is None else ["pose_node", *self._args],
                signal_handler_options=SignalHandlerOptions.NO,
            )
            return PoseNode(
                self._load,
                interrupted=lambda: bool(self._signalled),
                enabled=before is None or before.enabled,
                parameter_overrides=None if before is None else before.parameters,
            )
        except (ValueError, ParameterException) as error:
            print(f"pose_node: error: {error}", file=sys.stderr)
        except RuntimeError as error:  # of rclpy, whose own classes for it are private
            print(
                f"pose_node: error: ROS cannot start with these arguments: {error}",
                file=sys.stderr,
            )
        return None

    def _spin(
        self, node: PoseNode, walk: Autostart | None, lost_before: AbstractSet[str]
    ) -> int | _Lost:
        spinner = Spinner(node)
        ports = PortWatch(ignored=self._inherited | lost_before)
        while not self._signalled:
            if lost := ports.lost():
                starts_anew = self._new_starts.allow()
                _tell_of_loss(node, starts_anew)
                if starts_anew:
                    walking = walk is not None and not walk.done
                    state = walk.goal if walk and walking else node.state_name
                    parameters = node.parameters.to_ros()
                    return _Lost(lost | lost_before, state, node.enabled, parameters)
                ports.ignore(lost)
            if walk is not None and not walk.step():
                return 0 if self._signalled else 1
            if not spinner.turn():
                break
        return 0


def _walk(node: PoseNode, before: _Lost | None) -> Autostart | None:
    """The walk to where the node was before, or to active if it shall start by itself."""
    if before is None:
        return Autostart(node) if node.parameters.autostart else None
    if before.state == "finalized":
        node.trigger_shutdown()
    if before.state == "inactive":
        return Autostart(node, goal="inactive")
    return Autostart(node) if before.state == "active" else None


def _tell_of_loss(node: PoseNode, starts_anew: bool) -> None:
    node.get_logger().error(
        "Fast DDS has lost shared memory of this process, as can happen after a process was "
        "killed, and nothing would arrive any more: "
        + ("the node starts anew" if starts_anew else "new starts did not help, end this process")
    )
