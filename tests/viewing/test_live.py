"""``pose-node view --live`` as a process that records; needs ROS 2 and the Rerun SDK."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_finished_recording(
    ros: Any, tmp_path: Path, number: int, read_back: Callable[[Path], Any]
) -> None:
    from builtin_interfaces.msg import Time
    from pose_node.msg import PersonPoseArray
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header

    from pose_node.ros import messages
    from tests.conftest import make_poses

    peer = ros.create_node("peer")
    images = peer.create_publisher(Image, "image_raw", 1)
    people = peer.create_publisher(PersonPoseArray, "poses", 1)
    path = tmp_path / "live.rrd"
    with subprocess.Popen(
        [sys.executable, "-m", "pose_node", "view", "--live", "--save", str(path)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        pause = threading.Event()
        size = 0
        for index in range(3000):
            header = Header(stamp=Time(sec=100, nanosec=index), frame_id="camera")
            images.publish(messages.to_image(header, np.full((24, 32, 3), 90, np.uint8)))
            people.publish(
                messages.to_pose_array(
                    header, make_poses(2), width=32, height=24, skeleton="coco17"
                )
            )
            pause.wait(0.02)
            # Something of the people is in the file, which is written as it comes.
            size = max((file.stat().st_size for file in tmp_path.iterdir()), default=0)
            if size > 50_000 or process.poll() is not None:
                break
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    peer.destroy_node()
    assert process.returncode == 0, output
    assert f"{path} is written" in output
    found = read_back(path)
    keypoints, pictures = found["/camera/image/keypoints"], found["/camera/image"]
    assert keypoints
    assert {row["time"] for row in pictures} <= {row["time"] for row in keypoints}
