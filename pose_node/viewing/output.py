"""A Rerun recording as one of the outputs of ``pose-node predict``."""

from __future__ import annotations

from pathlib import Path

from pose_node.poses import Poses, Skeleton
from pose_node.prediction.frames import RecordedFrame, Recording
from pose_node.viewing.destinations import File
from pose_node.viewing.pose_log import PoseLog, ViewedFrame
from pose_node.viewing.results import CameraNames


class RerunOutput:
    """Writes images and people into a recording for the Rerun viewer.

    Args:
        path: the file.
        skeleton: of the people.
        keypoint_threshold: keypoints with a lower score are not shown.

    Raises:
        ViewError: the Rerun SDK is missing.
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path, skeleton: Skeleton, *, keypoint_threshold: float = 0.5) -> None:
        self._file = File(path)
        self._log = PoseLog(self._file.stream, keypoint_threshold=keypoint_threshold)
        self._skeleton = skeleton
        self._names = CameraNames()

    def begin(self, recording: Recording) -> None:
        """Nothing to do."""

    def write(self, frame: RecordedFrame, poses: Poses) -> None:
        """Add a frame."""
        viewed = ViewedFrame(
            camera=self._names.name(frame),
            index=frame.index,
            stamp_ns=frame.stamp_ns,
            poses=poses,
            image=frame.image,
            channel_order=frame.channel_order,
            file=frame.source if frame.stamp_ns is None else "",
        )
        self._log.write(viewed, self._skeleton)

    def end(self, *, complete: bool) -> None:
        """Nothing to do."""

    def close(self) -> list[Path]:
        """Finish the file."""
        self._log.finish()
        self._file.close()
        return [self._file.path]

    def abort(self) -> None:
        """Delete it."""
        self._file.abort()
