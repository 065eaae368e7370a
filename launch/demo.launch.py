"""A camera, the node and, where RViz is installed, a window that shows both:
``ros2 launch pose_node demo.launch.py source:=0`` (a webcam), ``source:=/path/to/video.mp4``.

The arguments of pose.launch.py hold here, too, and ``namespace``, ``image`` and ``image_transport``
for the camera as well; there is one, so ``cameras`` is for pose.launch.py alone.
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, LogInfo
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription
from pose_node.ros.transport import transport_environment


def generate_launch_description() -> LaunchDescription:
    """Camera, node with all its arguments, RViz."""
    share = Path(get_package_share_directory("pose_node"))
    camera = Node(
        package="pose_node",
        executable="camera",
        name="camera",
        namespace=LaunchConfiguration("namespace"),
        arguments=[
            LaunchConfiguration("source"),
            *("--rate", LaunchConfiguration("rate"), "--loop"),
            *("--transport", LaunchConfiguration("image_transport")),
        ],
        remappings=[
            ("image_raw", LaunchConfiguration("image")),
            ("image_raw/compressed", [LaunchConfiguration("image"), "/compressed"]),
        ],
        additional_env=transport_environment(),
        output="screen",
    )
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share / "launch" / "pose.launch.py"))
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "source",
                description="Video file, webcam number, image or folder of images.",
            ),
            DeclareLaunchArgument("rate", default_value="30", description="Images a second."),
            DeclareLaunchArgument("rviz", default_value="true", description="Open RViz."),
            node,  # first: it declares the arguments that the camera takes, too
            camera,
            _rviz(share / "rviz" / "pose.rviz"),
        ]
    )


def _rviz(config: Path) -> Node | LogInfo:
    wanted = IfCondition(LaunchConfiguration("rviz"))
    try:
        get_package_share_directory("rviz2")
    except PackageNotFoundError:
        message = "RViz is not installed: see the people with rqt_image_view on image_annotated"
        return LogInfo(msg=message, condition=wanted)
    return Node(
        package="rviz2",
        executable="rviz2",
        name="rviz",
        arguments=["-d", str(config)],
        condition=wanted,
    )
