"""Frames in, people out: the whole road without ROS.

The same pipeline serves the node, a video or a folder of images.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from pose_node.poses import Frame, Poses, Skeleton
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


class PersonFollower:
    """Follows the people of one camera: ids that last and, if asked for, smoothed keypoints.

    Args:
        skeleton: of the people.
        tracking: how to follow them.
        smoothing: how to smooth the keypoints of people with ids; None leaves them.
        score_threshold: people scored at or below are dropped, unless they continue a track; those
            too weak to start a track (`TrackerSettings.new_track_score`) are dropped, too, as they
            would go without an id for ever.
        first_id: the id of the first track.

    Attributes:
        tracking, smoothing, score_threshold: as given; may be set between calls.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        tracking: TrackerSettings,
        smoothing: SmoothingSettings | None = None,
        *,
        score_threshold: float,
        first_id: int = 1,
    ) -> None:
        self.tracking = tracking
        self.smoothing = smoothing
        self.score_threshold = score_threshold
        self._tracker = PoseTracker(skeleton, tracking, first_id=first_id)
        self._smoother: PoseSmoother | None = None

    @property
    def next_id(self) -> int:
        """An id that no track has had."""
        return self._tracker.next_id

    def update(self, poses: Poses, stamp_ns: int) -> tuple[Poses, Poses]:
        """Take the people of the next image, found down to `lowest_score`.

        Returns:
            The people to show, and the same people where the network found them.
        """
        self._tracker.settings = self.tracking
        least = max(self.score_threshold, self.tracking.new_track_score)
        followed = publishable(self._tracker.update(poses, stamp_ns), least)
        if self.smoothing is None:
            self._smoother = None
            return followed, followed
        if self._smoother is None:
            self._smoother = PoseSmoother()
        self._smoother.settings = self.smoothing
        return self._smoother.update(followed, stamp_ns), followed

    def forget(self) -> None:
        """Forget everybody: the next image has nothing to do with the last."""
        self._tracker.reset()
        self._smoother = None


def lowest_score(score_threshold: float, tracking: TrackerSettings | None) -> float:
    """The score that an engine must go down to: tracking makes use of weak people, too."""
    return min(score_threshold, tracking.low_score) if tracking else score_threshold


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
        self._followers: dict[str, PersonFollower] = {}

    def __call__(self, frames: Sequence[Frame]) -> list[Found]:
        """Find the people in each frame.

        Args:
            frames: of different cameras or of one, of any sizes; those of one camera in the order
                in which they were taken.

        Returns:
            Each frame with its people, in pixels of its original image, in the same order.

        Raises:
            ImageError: the engine cannot take a frame's image.
        """
        tracking = self.tracking
        threshold = self.score_threshold
        self.engine.score_threshold = lowest_score(threshold, tracking)
        found_in_images = self.engine(
            [frame.image for frame in frames],
            channel_order=[frame.channel_order for frame in frames],
        )
        people = [
            poses.in_original(frame) for frame, poses in zip(frames, found_in_images, strict=True)
        ]
        self.stage_times = dict(self.engine.stage_times)
        if tracking is None:
            self.forget()
            return [Found(frame, poses, poses) for frame, poses in zip(frames, people, strict=True)]
        started = time.perf_counter()
        found = [
            Found(frame, *self._follower(frame.camera, tracking).update(poses, _time(frame)))
            for frame, poses in zip(frames, people, strict=True)
        ]
        self.stage_times["track"] = time.perf_counter() - started
        return found

    @property
    def next_id(self) -> int:
        """An id that no track of any camera has had."""
        return max((each.next_id for each in self._followers.values()), default=self.first_id)

    def forget(self) -> None:
        """Forget everybody who was followed: the next frames have nothing to do with the last."""
        for follower in self._followers.values():
            follower.forget()

    def _follower(self, camera: str, tracking: TrackerSettings) -> PersonFollower:
        """Of a camera, with the settings of now."""
        follower = self._followers.get(camera)
        if follower is None:
            follower = self._followers[camera] = PersonFollower(
                self.engine.skeleton,
                tracking,
                score_threshold=self.score_threshold,
                first_id=self.first_id,
            )
        follower.tracking, follower.smoothing = tracking, self.smoothing
        follower.score_threshold = self.score_threshold
        return follower


def _time(frame: Frame) -> int:
    """When the frame was taken; for cameras that do not say so, now. Nanoseconds."""
    return frame.stamp_ns or time.monotonic_ns()
