"""Keypoints without their tremble: a One Euro filter for each keypoint of each track.

Casiez, Roussel, Vogel 2012, "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in
Interactive Systems". Who holds still is smoothed strongly, who moves fast hardly at all. Everything
goes by the stamps, so any rate will do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np

from pose_node.poses import Poses


@dataclass(frozen=True)
class SmoothingSettings:
    """What can be set about smoothing.

    Attributes:
        min_cutoff: Hz, the cutoff for a keypoint that holds still; lower is smoother.
        speed_coefficient: how much the cutoff rises with speed: Hz for each height of the person's
            box in a second.
        speed_cutoff: Hz, the cutoff of the measured speed.
        max_lag: seconds, the most that a moving keypoint trails behind, whatever the others say.

    Raises:
        ValueError: a value is out of its range.
    """

    min_cutoff: float = 1.5
    speed_coefficient: float = 10.0
    speed_cutoff: float = 1.0
    max_lag: float = 0.1

    def __post_init__(self) -> None:
        for field in fields(self):
            low, high = RANGES[field.name]
            value = getattr(self, field.name)
            if not (math.isfinite(value) and low <= value <= high):
                raise ValueError(f"{field.name} must be {low} to {high}, got {value}")


RANGES: dict[str, tuple[float, float]] = {
    "min_cutoff": (0.01, 100.0),
    "speed_coefficient": (0.0, 1000.0),
    "speed_cutoff": (0.01, 100.0),
    "max_lag": (0.0, 2.0),
}
"""Least and greatest value of each setting."""

FORGET_SECONDS = 1.0
"""After so long a gap a track is smoothed afresh: what was before says nothing any more."""


class PoseSmoother:
    """Smooths the keypoints of the people of one camera; those without an id pass unchanged.

    Args:
        settings: may be replaced between calls (`smoother.settings = ...`).

    Attributes:
        settings: as given.
    """

    def __init__(self, settings: SmoothingSettings | None = None) -> None:
        self.settings = settings or SmoothingSettings()
        self.reset()

    def reset(self) -> None:
        """Forget everybody."""
        self._ids = np.empty(0, np.int64)
        self._seen_ns = np.empty(0, np.int64)
        self._position = np.empty((0, 0, 2))  # (tracks, K, 2), pixels
        self._speed = np.empty((0, 0, 2))  # pixels a second

    def update(self, poses: Poses, stamp_ns: int) -> Poses:
        """Take the people of the next image.

        Args:
            poses: with the ids of a tracker, each id at most once.
            stamp_ns: capture time of the image in nanoseconds.

        Returns:
            The same people with x and y of their keypoints smoothed, and nothing else changed.
        """
        if self._position.shape[1] != poses.num_keypoints:
            self.reset()
            self._position = self._speed = np.empty((0, poses.num_keypoints, 2))
        age = (stamp_ns - self._seen_ns) / 1e9
        self._keep((age >= 0) & (age <= FORGET_SECONDS))  # an earlier stamp: the clock was set back
        people = np.flatnonzero(poses.ids >= 0)
        places = {int(track): row for row, track in enumerate(self._ids)}
        rows = np.array([places.get(int(track), -1) for track in poses.ids[people]], np.intp)
        known, new = rows >= 0, rows < 0
        keypoints = poses.keypoints.copy()
        self._smooth(poses, keypoints, people[known], rows[known], stamp_ns)
        self._begin(poses, people[new], stamp_ns)
        return replace(poses, keypoints=keypoints)

    def _smooth(
        self, poses: Poses, keypoints: np.ndarray, people: np.ndarray, rows: np.ndarray, now: int
    ) -> None:
        """Filter the known people, into `keypoints` and the state."""
        settings = self.settings
        seconds = ((now - self._seen_ns[rows]) / 1e9)[:, None]  # (N, 1)
        measured = poses.keypoints[people, :, :2].astype(np.float64)
        scores = np.clip(np.nan_to_num(poses.keypoints[people, :, 2]), 0, 1)
        boxes = np.nan_to_num(poses.boxes_xyxy[people], posinf=0, neginf=0)
        heights = np.maximum(boxes[:, 3] - boxes[:, 1], 1)

        moved = measured - self._position[rows]
        # A keypoint that is no number passes as it is and leaves the filter alone.
        moved = np.where(np.isfinite(moved), moved, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            speed = np.where(seconds[..., None] > 0, moved / seconds[..., None], 0.0)
        weight = _weight(seconds, settings.speed_cutoff)[..., None]
        speed = self._speed[rows] + weight * (speed - self._speed[rows])
        heights_per_second = np.hypot(speed[..., 0], speed[..., 1]) / heights[:, None]

        cutoff = settings.min_cutoff + settings.speed_coefficient * heights_per_second
        # What the network is not sure of counts less; the bound on the lag holds all the same.
        weight = _weight(seconds, cutoff) * scores
        least = seconds / np.maximum(seconds + settings.max_lag, 1e-12)
        position = self._position[rows] + np.maximum(weight, least)[..., None] * moved
        position = np.where(np.isfinite(position), position, measured)

        # Two images of one time say nothing of movement: the newer one passes.
        filtered = np.isfinite(measured) & (seconds > 0)[..., None]
        keypoints[people, :, :2] = np.where(filtered, position, measured)
        self._position[rows], self._speed[rows], self._seen_ns[rows] = position, speed, now

    def _begin(self, poses: Poses, people: np.ndarray, now: int) -> None:
        positions = poses.keypoints[people, :, :2].astype(np.float64)
        self._ids = np.concatenate((self._ids, poses.ids[people]))
        self._seen_ns = np.concatenate((self._seen_ns, np.full(len(people), now, np.int64)))
        self._position = np.concatenate((self._position, positions))
        self._speed = np.concatenate((self._speed, np.zeros_like(positions)))

    def _keep(self, rows: np.ndarray) -> None:
        self._ids, self._seen_ns = self._ids[rows], self._seen_ns[rows]
        self._position, self._speed = self._position[rows], self._speed[rows]


def _weight(seconds: np.ndarray, cutoff: np.ndarray | float) -> np.ndarray:
    """How much a new value counts in a low-pass of first order: 0 after no time, 1 after long."""
    turns = 2 * math.pi * cutoff * seconds
    return np.asarray(turns / (1 + turns))
