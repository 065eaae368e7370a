"""What can be set about tracking, with its ranges; the node's parameters come from here."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class TrackerSettings:
    """Thresholds and times of a `PoseTracker`. All times are by the images' stamps.

    Attributes:
        low_score: people scored at or below are ignored: they get no id. Ask the engine for people
            down to here.
        high_score: people scored above are confident and matched first; those between the two
            scores only continue a track that no confident one continues. At least `low_score`.
        new_track_score: only people scored above start a track. At least `high_score`.
        match_threshold: least similarity of a confident person to the track they continue, 0 to 1.
        weak_match_threshold: the same for people between `low_score` and `high_score`.
        confirm_hits: a new track gets its id once it was seen in so many images, and
        confirm_seconds: for at least so long.
        tentative_seconds: a track without an id is given up when it was not seen for longer.
        lost_seconds: a track with an id is given up when it was not seen for longer; until then
            the same person gets the same id again.
        restart_seconds: a gap between two images longer than this, or a stamp earlier than the
            last by more than `REORDER_SECONDS`, ends all tracks: a bag that loops, a simulation
            that was reset, a camera that was away. Ids are not used again.

    Raises:
        ValueError: a value is out of its range or two contradict each other.
    """

    low_score: float = 0.1
    high_score: float = 0.3
    new_track_score: float = 0.3
    match_threshold: float = 0.3
    weak_match_threshold: float = 0.4
    confirm_hits: int = 2
    confirm_seconds: float = 0.1
    tentative_seconds: float = 0.3
    lost_seconds: float = 3.0
    restart_seconds: float = 3.0

    def __post_init__(self) -> None:
        for field in fields(self):
            low, high = RANGES[field.name]
            value = getattr(self, field.name)
            if not (math.isfinite(value) and low <= value <= high):
                raise ValueError(f"{field.name} must be {low} to {high}, got {value}")
        if self.confirm_hits != int(self.confirm_hits):
            raise ValueError(f"confirm_hits must be a whole number, got {self.confirm_hits}")
        if not self.low_score <= self.high_score <= self.new_track_score:
            raise ValueError(
                "low_score, high_score and new_track_score must not fall, got "
                f"{self.low_score}, {self.high_score}, {self.new_track_score}"
            )


RANGES: dict[str, tuple[float, float]] = {
    "low_score": (0.0, 1.0),
    "high_score": (0.0, 1.0),
    "new_track_score": (0.0, 1.0),
    "match_threshold": (0.01, 1.0),
    "weak_match_threshold": (0.01, 1.0),
    "confirm_hits": (1, 100),
    "confirm_seconds": (0.0, 10.0),
    "tentative_seconds": (0.0, 10.0),
    "lost_seconds": (0.0, 60.0),
    "restart_seconds": (0.1, 3600.0),
}
"""Least and greatest value of each setting."""
