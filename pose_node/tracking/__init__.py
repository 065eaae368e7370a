"""People over time: ids that last, from poses and stamps alone. Needs numpy and scipy."""

from pose_node.tracking.settings import RANGES, TrackerSettings
from pose_node.tracking.tracker import (
    MAX_ID,
    REORDER_SECONDS,
    PoseTracker,
    Track,
    TrackState,
    publishable,
)

__all__ = [
    "MAX_ID",
    "RANGES",
    "REORDER_SECONDS",
    "PoseTracker",
    "Track",
    "TrackState",
    "TrackerSettings",
    "publishable",
]
