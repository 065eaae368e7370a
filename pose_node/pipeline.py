"""Frames in, people out: the whole road without ROS.

The same pipeline serves the node, a video or a folder of images.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from pose_node.poses import Frame, Poses
from pose_node.smoothing import PoseSmoother, SmoothingSettings
from pose_node.tracking import PoseTracker, TrackerSettings, publishable

if TYPE_CHECKING:
    from pose_node.inference.engine import PoseEngine


class Found(NamedTuple):
    """A frame and the people in it.

    Attributes:
        frame: as given.
        poses: the people, with ids and smoothed as far as the pipeline was asked for it.
        unsmoothed: the same people where the network found them.
    """

    frame: Frame
    poses: Poses
    unsmoothed: Poses


class PosePipeline:
    """Finds the people in frames of any number of cameras with one engine, and follows them.

    Args:
        engine: the engine; the thread that calls the pipeline owns it.
        tracking: how to follow people, with one tracker for each camera; None gives no ids.
        smoothing: how to smooth the keypoints of people with ids; None leaves them.

    Attributes:
        engine: as given; its score threshold is set by the pipeline.
        score_threshold: people scored at or below are dropped, unless they continue a track; at
            first that of the engine. May be set between calls. While people are followed, those
            too weak to start a track (`TrackerSettings.new_track_score`) are dropped, too.
        tracking, smoothing: as given; may be set between calls.
        first_id: the id of the first track of each camera; may be set before the first call.
        stage_times: seconds that the last call spent in each stage of the engine and in "track".
    """

    def __init__(
        self,
        engine: PoseEngine,
        *,
        tracking: TrackerSettings | None = None,
        smoothing: SmoothingSettings | None = None,
    ) -> None:
        self.engine = engine
        self.score_threshold = engine.score_threshold
        self.tracking = tracking
        self.smoothing = smoothing
        self.stage_times: dict[str, float] = {}
        self.first_id = 1
        self._trackers: dict[str, PoseTracker] = {}
        self._smoothers: dict[str, PoseSmoother] = {}

    def __call__(self, frames: Sequence[Frame]) -> list[Found]:
        """Find the people in each frame.

        Args:
            frames: of different cameras or of one, of any sizes; those of one camera in the order
                in which they were taken.

        Returns:
            Each frame with its people, in the same order.

        Raises:
            ImageError: the engine cannot take a frame's image.
        """
        tracking = self.tracking
        threshold = self.score_threshold
        # The tracker makes use of weak people, too.
        self.engine.score_threshold = min(threshold, tracking.low_score) if tracking else threshold
        people = self.engine(
            [frame.image for frame in frames],
            channel_order=[frame.channel_order for frame in frames],
        )
        self.stage_times = dict(self.engine.stage_times)
        if tracking is None:
            self.forget()
            return [Found(frame, poses, poses) for frame, poses in zip(frames, people, strict=True)]
        started = time.perf_counter()
        followed = list(map(self._follow, frames, people, itertools.repeat(tracking)))
        found = [
            Found(frame, self._smooth(frame, poses), poses)
            for frame, poses in zip(frames, followed, strict=True)
        ]
        self.stage_times["track"] = time.perf_counter() - started
        return found

    @property
    def next_id(self) -> int:
        """An id that no track of any camera has had."""
        return max((tracker.next_id for tracker in self._trackers.values()), default=self.first_id)

    def forget(self) -> None:
        """Forget everybody who was followed: the next frames have nothing to do with the last."""
        for tracker in self._trackers.values():
            tracker.reset()
        self._smoothers.clear()

    def _follow(self, frame: Frame, poses: Poses, settings: TrackerSettings) -> Poses:
        tracker = self._trackers.get(frame.camera)
        if tracker is None:
            tracker = self._trackers[frame.camera] = PoseTracker(
                self.engine.skeleton, settings, first_id=self.first_id
            )
        tracker.settings = settings
        # Whoever is too weak to start a track would go without an id for ever.
        least = max(self.score_threshold, settings.new_track_score)
        return publishable(tracker.update(poses, _time(frame)), least)

    def _smooth(self, frame: Frame, poses: Poses) -> Poses:
        settings = self.smoothing
        if settings is None:
            self._smoothers.pop(frame.camera, None)
            return poses
        smoother = self._smoothers.setdefault(frame.camera, PoseSmoother())
        smoother.settings = settings
        return smoother.update(poses, _time(frame))


def _time(frame: Frame) -> int:
    """When the frame was taken; for cameras that do not say so, now. Nanoseconds."""
    return frame.stamp_ns or time.monotonic_ns()
