"""Frames keep their identity on the way through the pipeline."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from pose_node import Frame, Poses
from pose_node.pipeline import PosePipeline
from pose_node.poses import COCO17, ChannelOrder
from pose_node.smoothing import SmoothingSettings
from pose_node.tracking import TrackerSettings


class CountingEngine:
    """Finds as many people as the first pixel says."""

    score_threshold = 0.3
    skeleton = COCO17
    stage_times: ClassVar[dict[str, float]] = {"network": 0.01}

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
    assert [found.frame.camera for found in results] == ["front", "rear"]
    assert [len(found.poses) for found in results] == [2, 5]
    assert engine.orders == ["bgr", "rgb"]


def test_no_frames() -> None:
    engine: Any = CountingEngine()
    assert PosePipeline(engine)([]) == []


def test_people_of_an_image_that_was_decoded_smaller_are_in_the_original() -> None:
    class OneBox(CountingEngine):
        def __call__(self, images: Sequence[np.ndarray], **_: Any) -> list[Poses]:
            boxes = np.float32([[1, 2, 3, 4]])
            return [Poses.from_arrays(boxes, [0.9], np.ones((1, 17, 3))) for _ in images]

    engine: Any = OneBox()
    small = np.zeros((4, 5, 3), np.uint8)
    frames = [Frame("", "", 1, small, "bgr", 4, (20, 15)), Frame("", "", 2, small)]
    boxes = [found.poses.boxes_xyxy.tolist() for found in PosePipeline(engine)(frames)]
    assert boxes == [[[4, 8, 12, 15]], [[1, 2, 3, 4]]]


class WalkingEngine(CountingEngine):
    """Finds one person, who walks right, at the score that the first pixel says in percent."""

    def __init__(self) -> None:
        self.x = 0.0
        self.thresholds: list[float] = []

    def __call__(
        self, images: Sequence[np.ndarray], *, channel_order: Sequence[ChannelOrder]
    ) -> list[Poses]:
        self.thresholds.append(self.score_threshold)
        self.x += 4
        found = []
        for image in images:
            score = int(image[0, 0, 0]) / 100
            box = np.array([[100 + self.x, 100, 200 + self.x, 400]])
            points = np.linspace(box[:, :2], box[:, 2:], 17, axis=1)
            keypoints = np.concatenate((points, np.full((1, 17, 1), 0.9)), 2)
            people = Poses.from_arrays(box, [score], keypoints)
            found.append(people if score > self.score_threshold else Poses.empty(17))
        return found


def frame(camera: str, index: int, percent: int) -> Frame:
    image = np.full((4, 4, 3), percent, np.uint8)
    return Frame(camera, "optical", 10**9 + index * 10**8, image)


def test_people_keep_their_ids_for_each_camera() -> None:
    engine: Any = WalkingEngine()
    pipeline = PosePipeline(engine, tracking=TrackerSettings())
    ids = [
        [int(found.poses.ids[0]) for found in pipeline([frame("a", i, 90), frame("b", i, 90)])]
        for i in range(6)
    ]
    assert ids[0] == [-1, -1]  # tentative
    assert ids[-1] == ids[-2] != [-1, -1]
    assert "track" in pipeline.stage_times


def test_weak_people_continue_tracks_only() -> None:
    engine: Any = WalkingEngine()
    pipeline = PosePipeline(engine, tracking=TrackerSettings(low_score=0.1))
    assert [len(pipeline([frame("", i, 20)])[0].poses) for i in range(3)] == [0, 0, 0]
    for i in range(3, 8):
        (found,) = pipeline([frame("", i, 90)])
    (weak,) = pipeline([frame("", 8, 20)])
    assert weak.poses.ids.tolist() == found.poses.ids.tolist() != [-1]
    assert set(engine.thresholds) == {0.1}
    pipeline.tracking = None
    assert len(pipeline([frame("", 9, 20)])[0].poses) == 0
    assert engine.thresholds[-1] == 0.3
    assert "track" not in pipeline.stage_times


def test_forgotten_people_get_new_ids() -> None:
    engine: Any = WalkingEngine()
    pipeline = PosePipeline(engine, tracking=TrackerSettings())
    for i in range(5):
        (before,) = pipeline([frame("", i, 90)])
    pipeline.forget()
    for i in range(5, 10):
        (after,) = pipeline([frame("", i, 90)])
    assert before.poses.ids[0] >= 0
    assert after.poses.ids[0] > before.poses.ids[0]


def test_smoothed_and_not() -> None:
    engine: Any = WalkingEngine()
    settings = SmoothingSettings(min_cutoff=0.5, speed_coefficient=0, max_lag=0.2)
    pipeline = PosePipeline(engine, tracking=TrackerSettings(), smoothing=settings)
    for i in range(10):
        (found,) = pipeline([frame("", i, 90)])
    behind = found.unsmoothed.keypoints[0, :, 0] - found.poses.keypoints[0, :, 0]
    assert (behind > 1).all()  # pixels, of 40 a second
    assert (behind <= 0.2 * 40 + 1e-3).all()
    np.testing.assert_array_equal(found.unsmoothed.ids, found.poses.ids)
    pipeline.smoothing = None
    (found,) = pipeline([frame("", 10, 90)])
    assert found.poses is found.unsmoothed


def test_cameras_without_stamps_are_followed_by_the_time_of_arrival(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = itertools.count(10**12, 10**8)
    monkeypatch.setattr("pose_node.pipeline.time.monotonic_ns", lambda: next(clock))
    engine: Any = WalkingEngine()
    pipeline = PosePipeline(engine, tracking=TrackerSettings())
    for _ in range(5):
        (found,) = pipeline([frame("", -10, 90)])  # a stamp of 0
    assert found.frame.stamp_ns == 0
    assert found.poses.ids.tolist() == [1]


def test_ids_go_on_where_another_pipeline_ended() -> None:
    first = PosePipeline(WalkingEngine(), tracking=TrackerSettings())  # type: ignore[arg-type]
    assert first.next_id == 1
    for i in range(5):
        first([frame("", i, 90)])
    assert first.next_id == 2
    second = PosePipeline(WalkingEngine(), tracking=TrackerSettings())  # type: ignore[arg-type]
    second.first_id = first.next_id
    for i in range(5):
        (found,) = second([frame("", i, 90)])
    assert found.poses.ids.tolist() == [2]


def test_nobody_goes_without_an_id_for_ever() -> None:
    engine: Any = WalkingEngine()
    settings = TrackerSettings(new_track_score=0.6)
    pipeline = PosePipeline(engine, tracking=settings)
    assert [len(pipeline([frame("", i, 50)])[0].poses) for i in range(5)] == [0] * 5
