"""Frames in, people out: the whole road without ROS.

The same pipeline serves the node, a video or a folder of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pose_node.poses import Frame, Poses

if TYPE_CHECKING:
    from pose_node.inference.engine import PoseEngine


class PosePipeline:
    """Finds the people in frames of any number of cameras with one engine.

    Args:
        engine: the engine; the thread that calls the pipeline owns it.
    """

    def __init__(self, engine: PoseEngine) -> None:
        self.engine = engine

    def __call__(self, frames: Sequence[Frame]) -> list[tuple[Frame, Poses]]:
        """Find the people in each frame.

        Args:
            frames: of different cameras or of one, of any sizes.

        Returns:
            Each frame with its people, in the same order.

        Raises:
            ImageError: the engine cannot take a frame's image.
        """
        people = self.engine(
            [frame.image for frame in frames],
            channel_order=[frame.channel_order for frame in frames],
        )
        return list(zip(frames, people, strict=True))
