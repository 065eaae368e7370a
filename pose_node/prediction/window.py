"""Shows results in a window while they are made."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2

from pose_node.drawing import draw_poses
from pose_node.errors import OutputError
from pose_node.poses import Poses, Skeleton
from pose_node.prediction.frames import RecordedFrame, Recording

_TITLE = "pose_node"


class Window:
    """The newest frame with its people.

    Args:
        skeleton: the model's.
        keypoint_threshold: keypoints with a lower score are not drawn.

    Raises:
        OutputError: there is no display, or this OpenCV has no windows.
    """

    def __init__(self, skeleton: Skeleton, *, keypoint_threshold: float = 0.5) -> None:
        self._skeleton = skeleton
        self._keypoint_threshold = keypoint_threshold
        if sys.platform == "linux" and not (
            os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        ):
            raise OutputError("--show needs a display: neither DISPLAY nor WAYLAND_DISPLAY is set")
        if "GUI:                           NONE" in cv2.getBuildInformation():
            raise OutputError(
                "--show needs an OpenCV with windows, this one is headless: "
                "pip uninstall opencv-python-headless; pip install opencv-python"
            )

    def begin(self, recording: Recording) -> None:
        """Nothing to do."""

    def write(self, frame: RecordedFrame, poses: Poses) -> None:
        """Show one frame."""
        image = frame.image if frame.channel_order == "bgr" else frame.image[:, :, ::-1]
        picture = draw_poses(
            image, poses, self._skeleton, keypoint_threshold=self._keypoint_threshold
        )
        cv2.imshow(_TITLE, picture)
        cv2.waitKey(1)

    def end(self, *, complete: bool) -> None:
        """Nothing to do."""

    def close(self) -> list[Path]:
        """Close the window."""
        cv2.destroyAllWindows()
        return []

    def abort(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()
