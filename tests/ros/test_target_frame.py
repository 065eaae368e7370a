"""Another frame by TF: the maths for real, tf2_ros by a stand-in that behaves as it does."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from rclpy.duration import Duration
from rclpy.time import Time

from pose_node.depth import Poses3D
from pose_node.errors import PoseNodeError
from pose_node.ros.target_frame import TargetFrame, check_target_frame, rotation_matrix
from tests.conftest import make_poses
from tests.ros.node_bench import header

pytestmark = pytest.mark.ros


class TransformException(Exception):
    """As tf2_ros has it, base of its lookup errors."""


class Buffer:
    """Knows how a camera sits 1 m up and 0.1 m ahead of base_link, looking ahead."""

    def lookup_transform(
        self, target_frame: str, source_frame: str, time: Time, timeout: Duration
    ) -> TransformStamped:
        asked = (target_frame, source_frame, time.nanoseconds, timeout.nanoseconds)
        if asked != ("base_link", "camera_optical_frame", 1_700_000_000_123_456_789, 50_000_000):
            raise TransformException(f"asked for {asked}")
        return TransformStamped(
            transform=Transform(
                translation=Vector3(x=0.1, y=0.0, z=1.0),
                rotation=Quaternion(x=-0.5, y=0.5, z=-0.5, w=0.5),
            )
        )


class TransformListener:
    live = 0

    def __init__(self, buffer: Buffer, node: object) -> None:
        TransformListener.live += 1

    def unregister(self) -> None:
        TransformListener.live -= 1


@pytest.fixture
def tf2_ros(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("tf2_ros")
    module.Buffer, module.TransformListener = Buffer, TransformListener
    module.TransformException = TransformException
    monkeypatch.setitem(sys.modules, "tf2_ros", module)


def people() -> Poses3D:
    return Poses3D.from_points(
        np.array([[[0.2, -0.3, 2.0], [np.nan] * 3]]), make_poses(1, num_keypoints=2)
    )


def test_without_tf2_ros_only_the_cameras_own_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    check_target_frame("")
    with pytest.raises(ValueError, match="'base_link' needs tf2_ros, which cannot be imported"):
        check_target_frame("base_link")
    node: Any = None
    with pytest.raises(ValueError, match="needs tf2_ros"):
        TargetFrame(node, "base_link")


@pytest.mark.usefixtures("tf2_ros")
def test_frames_have_no_leading_slash() -> None:
    check_target_frame("base_link")
    with pytest.raises(ValueError, match="use 'base_link'"):
        check_target_frame("/base_link")


@pytest.mark.usefixtures("tf2_ros")
def test_moves_people_at_the_stamp_of_their_image() -> None:
    node: Any = None
    target = TargetFrame(node, "base_link")
    moved = target.transform(header(), people(), patience_s=0.05)
    # 2 m before the camera, 0.2 m to the right, 0.3 m up.
    np.testing.assert_allclose(moved.points[0, 0], (2.1, -0.2, 1.3), rtol=1e-6)
    assert np.isnan(moved.points[0, 1]).all()
    assert TransformListener.live == 1
    target.destroy()
    assert TransformListener.live == 0


@pytest.mark.usefixtures("tf2_ros")
def test_says_what_tf_does_not_know() -> None:
    node: Any = None
    target = TargetFrame(node, "base_link")
    with pytest.raises(PoseNodeError, match="from 'camera_optical_frame' to target_frame 'base_l"):
        target.transform(header(5), people(), patience_s=0.05)
    before_time = header()
    before_time.stamp.sec = -5
    with pytest.raises(PoseNodeError, match=r"no transform .* must not be negative"):
        target.transform(before_time, people(), patience_s=0.05)
    target.destroy()


def test_rotation_matrix() -> None:
    half = np.sqrt(0.5)
    quarter = rotation_matrix(0, 0, half, half)
    np.testing.assert_allclose(quarter @ (1, 0, 0), (0, 1, 0), atol=1e-12)
    optical_to_body = rotation_matrix(-0.5, 0.5, -0.5, 0.5)
    np.testing.assert_allclose(optical_to_body, [[0, 0, 1], [-1, 0, 0], [0, -1, 0]], atol=1e-12)
    np.testing.assert_allclose(rotation_matrix(0, 0, 2 * half, 2 * half), quarter)
