#!/usr/bin/env python3
"""Looks whether an installed pose_node is whole. Run it outside the checkout.

``check_installed.py [PREFIX]``: modules and messages come from the installation, a message travels,
and executables, launch files and configuration lie where ROS 2 looks for them. Ends with an
AssertionError at the first thing missing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import rclpy
from pose_node.msg import Keypoint, PersonPose, PersonPoseArray
from rclpy.serialization import deserialize_message, serialize_message

import pose_node
from pose_node.ros.transport import prepare_process

prefix = Path(sys.argv[1] if len(sys.argv) > 1 else sys.prefix).resolve()
package = Path(pose_node.__file__).resolve()
assert package.is_relative_to(prefix), f"pose_node is imported from {package}, not below {prefix}"
assert pose_node.Poses, "the package has the generator's empty __init__.py"
assert (package.parent / "py.typed").is_file(), "py.typed is not installed"

sent = PersonPoseArray(people=[PersonPose(track_id=3, keypoints=[Keypoint(x=1.5)])])
assert deserialize_message(serialize_message(sent), PersonPoseArray) == sent

prepare_process()  # else what a killed process left in shared memory could keep us waiting
rclpy.init()
node = rclpy.create_node("check_installed")
node.create_publisher(PersonPoseArray, "poses", 1).publish(sent)
rclpy.shutdown()

share = prefix / "share" / "pose_node"
for relative in (
    "package.xml",
    "msg/PersonPoseArray.msg",
    "config/exercises.yaml",
    "config/fastdds.xml",
    "config/fastdds_wireless.xml",
    "config/pose_node.yaml",
    "config/sros2_policy.xml",
    "launch/pose.launch.py",
    "launch/demo.launch.py",
    "rviz/pose.rviz",
):
    assert (share / relative).is_file(), f"{share / relative} is missing"
assert (prefix / "share/ament_index/resource_index/packages/pose_node").is_file()

programs = prefix / "lib" / "pose_node"
for program, argument in (
    *(("pose_node", ""), ("camera", "--help"), ("exercise", "--list"), ("pose-node", "--help")),
):
    path = programs / program
    assert os.access(path, os.X_OK), f"{path} is missing or not executable"
    if argument:
        subprocess.run([path, argument], check=True, stdout=subprocess.DEVNULL)
