"""The node with the real network: people who keep their ids, and people in metres."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from builtin_interfaces.msg import Time
from pose_node.msg import PersonPose3DArray, PersonPoseArray
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from pose_node.ros.loading import load_pipeline
from tests.ros.node_bench import Bench

pytestmark = pytest.mark.ros

START = 1_700_000_000


def to_message(picture: np.ndarray, milliseconds: int, encoding: str = "bgr8") -> Image:
    stamp = Time(sec=START + milliseconds // 1000, nanosec=milliseconds % 1000 * 1_000_000)
    height, width = picture.shape[:2]
    return Image(
        header=Header(stamp=stamp, frame_id="camera_optical_frame"),
        height=height,
        width=width,
        encoding=encoding,
        step=picture.strides[0],
        data=picture.tobytes(),
    )


def frames(path: Path, first: int, count: int) -> list[np.ndarray]:
    video = cv2.VideoCapture(str(path))
    pictures = [video.read()[1] for _ in range(first + count)][first:]
    video.release()
    return pictures


@pytest.fixture
def real(make_bench: Callable[..., Bench], yolo11n_pose: Path) -> Callable[..., Bench]:
    """Makes an active node with the real network."""

    def make(**parameters: Any) -> Bench:
        given = {"model": str(yolo11n_pose), "device": "cpu", **parameters}
        return make_bench(load=load_pipeline, **given).activate()

    return make


def test_a_person_keeps_one_id(real: Callable[..., Bench], shared: Path) -> None:
    """Somebody walks through the picture; the images are a tenth of a second apart."""
    bench = real(tracker=True, smoothing=True, publish_unsmoothed=True, image_size=320)
    unsmoothed = bench.listen(PersonPoseArray, "poses_unsmoothed")
    bench.until(lambda: bench.is_heard("poses_unsmoothed"))
    pictures = frames(shared / "data/videos/one_by_one_person.mp4", 80, 12)
    ids = []
    for index, picture in enumerate(pictures):
        message = bench.ask(to_message(picture, 100 * index))
        ids.append([person.track_id for person in message.people])
    assert ids[0] == [-1]  # tentative
    assert {tuple(found) for found in ids[4:]} == {(ids[-1][0],)}
    assert ids[-1][0] >= 0
    assert "track ms p50/p95" in bench.values("node")
    raw = [bench.get(unsmoothed) for _ in pictures][-1]
    assert raw.header == message.header
    assert raw.people[0].track_id == message.people[0].track_id
    assert raw.people[0].keypoints != message.people[0].keypoints


def test_a_person_in_metres(real: Callable[..., Bench], shared: Path) -> None:
    folder = shared / "data/rgbd"
    colour = cv2.imread(str(folder / "person_rgb.png"))
    depth = cv2.imread(str(folder / "person_depth_mm.png"), cv2.IMREAD_UNCHANGED)
    calibration = yaml.safe_load((folder / "camera_info.yaml").read_text())
    assert colour is not None
    assert depth is not None

    bench = real(depth=True, depth_patience=1.0, adapters=[""])
    points = bench.listen(PersonPose3DArray, "poses_3d")
    markers = bench.listen(MarkerArray, "markers")
    poses = bench.listen(PersonPoseArray, "poses")
    bench.until(lambda: all(bench.is_heard(name) for name in ("poses_3d", "markers", "poses")))
    info = CameraInfo(
        width=colour.shape[1],
        height=colour.shape[0],
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=calibration["camera_matrix"]["data"],
    )
    bench.publisher(CameraInfo, "camera_info").publish(info)
    bench.publisher(Image, "depth/image_raw").publish(to_message(depth, 5, "16UC1"))
    bench.send(to_message(colour, 0))

    seen, in_space = bench.get(poses), bench.get(points)
    assert in_space.header == seen.header
    assert len(in_space.people) == len(seen.people) == 1
    keypoints = np.array([(p.x, p.y, p.z) for p in in_space.people[0].keypoints])
    torso = keypoints[[5, 6, 11, 12]]
    assert abs(np.nanmean(torso[:, 2]) - 1.54) < 0.05
    assert not (np.abs(keypoints) < 1e-3).all(1).any()  # nothing at the camera's own place
    shown = bench.get(markers)
    assert {marker.ns.rpartition("/")[2] for marker in shown.markers}
    assert "depth ms p50/p95" in bench.values("node")


def test_what_needs_a_missing_package_is_refused(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(adapters=["hri"])
    assert bench.transition("configure") == ["FAILURE"]
    assert "adapters: 'hri' is not known" in bench.wait_for_log("cannot configure", "error")
