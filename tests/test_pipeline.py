"""Frames keep their identity on the way through the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pose_node import Frame, Poses
from pose_node.pipeline import PosePipeline
from pose_node.poses import ChannelOrder


class CountingEngine:
    """Finds as many people as the first pixel says."""

    def __call__(
        self, images: Sequence[np.ndarray], *, channel_order: Sequence[ChannelOrder]
    ) -> list[Poses]:
        self.orders = list(channel_order)
        return [
            Poses.from_arrays(np.zeros((n, 4)), np.zeros(n), np.zeros((n, 17, 3)))
            for n in (int(image[0, 0, 0]) for image in images)
        ]


def test_each_frame_comes_back_with_its_own_people() -> None:
    engine: Any = CountingEngine()
    frames = [
        Frame("front", "front_optical_frame", 1, np.full((4, 4, 3), 2, np.uint8)),
        Frame("rear", "rear_optical_frame", 2, np.full((8, 8, 3), 5, np.uint8), "rgb"),
    ]
    results = PosePipeline(engine)(frames)
    assert [frame.camera for frame, _ in results] == ["front", "rear"]
    assert [len(poses) for _, poses in results] == [2, 5]
    assert engine.orders == ["bgr", "rgb"]


def test_no_frames() -> None:
    engine: Any = CountingEngine()
    assert PosePipeline(engine)([]) == []
