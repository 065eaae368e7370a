"""Whom ``pose-node predict`` follows: the options of tracking and smoothing, and what they make."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pose_node.pipeline import PersonFollower
    from pose_node.poses import Poses, Skeleton
    from pose_node.smoothing import SmoothingSettings
    from pose_node.tracking import TrackerSettings

_SMOOTHING = {
    "min_cutoff": "Hz, of keypoints that hold still; lower is smoother (1.5)",
    "speed_coefficient": "Hz more for each body height a second (10)",
    "speed_cutoff": "Hz, of the measured speed (1)",
    "max_lag": "seconds that a moving keypoint trails behind at most (0.1)",
}


def add_tracking_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says whether and how people are followed."""
    group = parser.add_argument_group("from frame to frame (docs/tracking.md)")
    group.add_argument("--track", action="store_true", help="give people ids that last")
    group.add_argument(
        "--smooth", action="store_true", help="take the tremble out of keypoints; also tracks"
    )
    for name, text in _SMOOTHING.items():
        group.add_argument(
            f"--smoothing-{name.replace('_', '-')}",
            type=float,
            metavar="X",
            help=f"{text}; also smooths",
        )


@dataclass(frozen=True)
class Following:
    """How people are followed.

    Attributes:
        tracking: how they get their ids.
        smoothing: how their keypoints are smoothed; None leaves them.
        score_threshold: people at or below are dropped, unless they continue a track.
    """

    tracking: TrackerSettings
    smoothing: SmoothingSettings | None
    score_threshold: float

    @property
    def lowest_score(self) -> float:
        """What the engine has to find: a track goes on with fainter people than it begins with."""
        from pose_node.pipeline import lowest_score

        return lowest_score(self.score_threshold, self.tracking)

    def new_tracker(self, skeleton: Skeleton) -> StampedFollower:
        """For one source or topic."""
        from pose_node.pipeline import PersonFollower

        follower = PersonFollower(
            skeleton, self.tracking, self.smoothing, score_threshold=self.score_threshold
        )
        return StampedFollower(follower)

    def to_json(self) -> dict[str, Any]:
        """What results say of it."""
        return {"track": True, "smoothing": self.smoothing and asdict(self.smoothing)}


class StampedFollower:
    """Follows people through a recording; images by themselves have nobody to follow."""

    def __init__(self, follower: PersonFollower) -> None:
        self._follower = follower

    def update(self, poses: Poses, stamp_ns: int | None) -> Poses:
        """The people of the next frame, with ids, or of an image, without."""
        from pose_node.tracking import publishable

        if stamp_ns is None:
            return publishable(poses, self._follower.score_threshold)
        return self._follower.update(poses, stamp_ns)[0]


def following(options: argparse.Namespace) -> Following | None:
    """What the command line says of following people; None if it does not ask for it."""
    given = {name: getattr(options, f"smoothing_{name}") for name in _SMOOTHING}
    given = {name: value for name, value in given.items() if value is not None}
    smooth = options.smooth or bool(given)
    if not (options.track or smooth):
        return None
    from pose_node.smoothing import SmoothingSettings
    from pose_node.tracking import TrackerSettings

    try:
        smoothing = SmoothingSettings(**given) if smooth else None
    except ValueError as error:
        options.parser.error(f"--smoothing-{str(error).replace('_', '-', 2)}")
    return Following(TrackerSettings(), smoothing, options.score_threshold)
