"""Tells supervisors and people how the node is: /diagnostics, ~/status and the log."""

from __future__ import annotations

from collections.abc import Sequence

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile

from pose_node.ros.diagnostics import Judged, judge, to_diagnostics, to_summary
from pose_node.ros.health import Condition, Level, NodeReport
from pose_node.ros.node_topics import NodeTopics
from pose_node.ros.throttle import Throttle

# What only the statistics know; for the rest there is a line of its own when it happens.
_NEW_IN_THE_LOG = {
    *(Condition.SILENT, Condition.NO_DEPTH, Condition.STAMP_JUMP, Condition.AHEAD, Condition.OLD),
    *(Condition.LATE, Condition.LOST, Condition.TOO_SLOW),
}


class Reports:
    """Publishers of the reports, and what was told last.

    Args:
        node: the node that they belong to.
    """

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._status = node.create_publisher(DiagnosticStatus, "~/status", latched)
        self._told: dict[str, Condition] = {}
        self._throttle = Throttle(seconds=10.0)

    def publish(self, report: NodeReport, topics: NodeTopics) -> None:
        """Tell how the node and its topics are."""
        name = self._node.get_fully_qualified_name()
        judged = judge(
            name,
            report,
            {camera.topic: camera.statistics.report() for camera in topics.cameras.values()},
            {depth.topic: depth.statistics.report() for depth in topics.depths.values()},
        )
        now, hardware = self._node.get_clock().now().to_msg(), report.device_description
        self._diagnostics.publish(to_diagnostics(now, judged, hardware))
        self._status.publish(to_summary(name, judged, hardware))
        self._log_changes(judged)

    def _log_changes(self, judged: Sequence[Judged]) -> None:
        """A line for each status whose condition has changed."""
        logger = self._node.get_logger()
        for name, (level, condition, message), _ in judged:
            before = self._told.get(name)
            if condition == before or not self._throttle.lets_through(name, condition):
                continue
            self._told[name] = condition
            line = (
                f'status of="{name}" level={level.name} condition="{condition.value}" '
                f'message="{message}"'
            )
            if level != Level.OK and condition in _NEW_IN_THE_LOG:
                logger.warning(line)
            elif level != Level.OK or before not in (None, Condition.NOT_ACTIVE):
                logger.info(line)
            else:
                logger.debug(line)
