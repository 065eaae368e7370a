"""Messages of bags that are written without ROS are those of ROS."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")
pytest.importorskip("rosbags", reason="rosbags missing: pip install rosbags")

from pose_node.msg import PersonPoseArray, SkeletonInfo
from rclpy.serialization import deserialize_message
from rosbags.highlevel import AnyReader

from pose_node.poses import COCO17
from pose_node.prediction.bag_output import BagOutput
from pose_node.ros import messages
from tests.conftest import make_poses
from tests.prediction.conftest import FakeRecording, make_recorded

pytestmark = pytest.mark.ros


def share_folder() -> Path:
    """Where the compiled package keeps the descriptions of its messages."""
    library = Path(inspect.getfile(PersonPoseArray))
    return next(p / "share/pose_node" for p in library.parents if (p / "share/pose_node").is_dir())


def test_ros_reads_them_and_knows_their_types(tmp_path: Path) -> None:
    output = BagOutput(tmp_path, COCO17)
    output.begin(FakeRecording([]))
    poses = make_poses(3)
    output.write(make_recorded(7, frame_id="cam"), poses)
    output.end(complete=True)
    found = {}
    with AnyReader([tmp_path / "a"]) as reader:
        for connection, _, content in reader.messages():
            found[connection.msgtype] = bytes(content)
            name = connection.msgtype.rpartition("/")[2]
            description = share_folder() / f"msg/{name}.json"
            (entry,) = [
                entry
                for entry in json.loads(description.read_text())["type_hashes"]
                if entry["type_name"] == connection.msgtype
            ]
            assert connection.digest == entry["hash_string"]
    array = deserialize_message(found["pose_node/msg/PersonPoseArray"], PersonPoseArray)
    assert (array.header.stamp.nanosec, array.header.frame_id) == (700_000_000, "cam")
    assert (array.image_width, array.image_height, array.skeleton) == (32, 24, "coco17")
    received = messages.to_poses(array)
    assert (received.keypoints == poses.keypoints).all()
    assert (received.ids == poses.ids).all()
    info = deserialize_message(found["pose_node/msg/SkeletonInfo"], SkeletonInfo)
    expected = messages.to_skeleton_info(COCO17, array.header.stamp)
    assert info == expected
