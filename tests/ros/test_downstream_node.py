"""The node of docs/downstream_node.md does what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from pose_node.msg import PersonPoseArray
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import Header, String

from pose_node.ros.messages import to_pose_array
from tests.conftest import make_poses

pytestmark = pytest.mark.ros

PAGE = Path(__file__).resolve().parents[2] / "docs/downstream_node.md"
LOOKS = 3000  # of a hundredth of a second


def people(nose_y: float, wrist_y: float) -> PersonPoseArray:
    poses = make_poses(1)
    keypoints = poses.keypoints.copy()
    keypoints[0, 0, 1:], keypoints[0, 9, 1:] = (nose_y, 0.9), (wrist_y, 0.9)
    keypoints[0, 10, 2] = 0.1  # the other wrist is not seen
    changed = type(poses)(poses.boxes_xyxy, poses.scores, keypoints, np.array([7]))
    return to_pose_array(Header(), changed, width=640, height=480, skeleton="coco17")


def test_the_example_runs(ros: Any, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(code.splitlines()) < 40
    script = tmp_path / "hands_up.py"
    script.write_text(code)
    node = ros.create_node("audience")
    heard: list[str] = []
    node.create_subscription(String, "hands_up", lambda message: heard.append(message.data), 10)
    publisher = node.create_publisher(PersonPoseArray, "poses", 10)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    process = subprocess.Popen([sys.executable, str(script)])
    try:
        for look in range(LOOKS):
            executor.spin_once(timeout_sec=0.01)
            if publisher.get_subscription_count() and node.count_publishers("hands_up"):
                publisher.publish(people(100, 300) if look % 2 else people(100, 50))
            if heard:
                break
        assert heard, "the example says nothing"
        assert set(heard) == {"hands up: [7]"}
    finally:
        process.kill()
        process.wait()
        executor.shutdown()
        node.destroy_node()
