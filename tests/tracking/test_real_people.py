"""The tracker on real videos, with the real network, on every third image."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pose_node import PoseEngine
from pose_node.tracking import PoseTracker

STEP = 3


def ids_of(path: Path, engine: PoseEngine, first: int, last: int) -> list[list[int]]:
    """Ids of the confirmed people of every third image, from left to right."""
    tracker = PoseTracker(engine.skeleton)
    video = cv2.VideoCapture(str(path))
    rate = video.get(cv2.CAP_PROP_FPS)
    found = []
    for index in range(last):
        read, image = video.read()
        assert read
        if index >= first and index % STEP == 0:
            (poses,) = engine([image])
            poses = tracker.update(poses, round(index / rate * 1e9))
            ids = poses.ids[np.argsort(poses.boxes_xyxy[:, 0])]
            found.append([int(track) for track in ids if track >= 0])
    video.release()
    return found


@pytest.fixture(scope="module")
def engine(yolo11n_pose: Path) -> PoseEngine:
    return PoseEngine.load(yolo11n_pose, device="cpu", score_threshold=0.1, image_size=416)


def test_one_after_the_other(engine: PoseEngine, shared: Path) -> None:
    """From the end of one person's stay, over the empty room, into the next one's."""
    found = ids_of(shared / "data/videos/one_by_one_person.mp4", engine, 150, 300)
    assert {track for ids in found for track in ids} == {1, 2}
    changes = np.flatnonzero(np.diff([max(ids, default=0) for ids in found]))
    assert len(changes) == 3  # the first comes, leaves, the second comes


def test_two_children_of_whom_one_hides_the_other(engine: PoseEngine, shared: Path) -> None:
    """The boy is behind the girl for more than two seconds, and comes back on the same side."""
    found = ids_of(shared / "data/videos/bedroom_two_children.mp4", engine, 0, 200)
    assert {track for ids in found for track in ids} == {1, 2}
    assert len(found[1]) == 2
    assert found[-1] == found[1]
