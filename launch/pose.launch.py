"""Starts pose_node: ``ros2 launch pose_node pose.launch.py [argument:=value ...]``.

Every parameter of the node is an argument with the node's own default; ``--show-args`` lists them.
Join it to any camera by remapping: ``image:=/camera/color/image_raw``. With
``image_transport:=compressed`` the node listens to that name with ``/compressed`` added. People in
metres need more: ``depth:=true depth_image:=/camera/aligned_depth_to_color/image_raw``.
"""

from __future__ import annotations

import dataclasses
import json

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from pose_node.ros.parameters import NodeParameters
from pose_node.ros.transport import transport_environment

PARAMETERS = {item.name: item for item in dataclasses.fields(NodeParameters)}


def generate_launch_description() -> LaunchDescription:
    """The arguments, and the node that is made of them."""
    return LaunchDescription([*_arguments(), OpaqueFunction(function=_node)])


def _arguments() -> list[DeclareLaunchArgument]:
    parameters = [
        DeclareLaunchArgument(
            name,
            default_value=_to_text(item.default),
            description=item.metadata["rule"].description,
        )
        for name, item in PARAMETERS.items()
    ]
    return [
        *parameters,
        DeclareLaunchArgument("name", default_value="pose_node", description="Name of the node."),
        DeclareLaunchArgument(
            "namespace", default_value="", description="Namespace of the node and its topics."
        ),
        DeclareLaunchArgument(
            "image",
            default_value="image_raw",
            description="Topic of the images, for a single camera.",
        ),
        DeclareLaunchArgument(
            "depth_image",
            default_value="depth/image_raw",
            description="Topic of the depth images, registered to those, for a single camera.",
        ),
        DeclareLaunchArgument(
            "camera_info",
            default_value="camera_info",
            description="Its calibration, for depth; by default beside the images.",
        ),
        DeclareLaunchArgument(
            "params_file",
            default_value="",
            description="Parameter file; arguments that differ from their default override it.",
        ),
        DeclareLaunchArgument(
            "respawn",
            default_value="true",
            description="Start the node again if it ends, a second later.",
        ),
        DeclareLaunchArgument(
            "log_level", default_value="info", description="debug, info, warn or error."
        ),
    ]


def _node(context: LaunchContext) -> list[Node]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    # What was not asked for stays out, so that a parameter file is not overridden by defaults.
    given = {
        name: _from_text(value(name), item.default)
        for name, item in PARAMETERS.items()
        if value(name) != _to_text(item.default)
    }
    image = value("image")
    return [
        Node(
            package="pose_node",
            executable="pose_node",
            name=value("name"),
            namespace=value("namespace"),
            parameters=[*filter(None, [value("params_file")]), given],
            remappings=[
                ("image_raw", image),
                ("image_raw/compressed", f"{image}/compressed"),
                ("depth/image_raw", value("depth_image")),
                ("camera_info", value("camera_info")),
            ],
            additional_env=transport_environment(),
            arguments=["--ros-args", "--log-level", value("log_level")],
            respawn=value("respawn").lower() == "true",
            respawn_delay=1.0,
            output="screen",
        )
    ]


def _to_text(default: object) -> str:
    """A default as one types it: true, 0.3, [front, rear]."""
    if isinstance(default, tuple):
        return json.dumps(list(default))
    return str(default).lower() if isinstance(default, bool) else str(default)


def _from_text(text: str, default: object) -> object:
    """The typed value of an argument; the node itself refuses what is out of range."""
    if isinstance(default, bool):
        return {"true": True, "on": True, "false": False, "off": False}.get(text.lower(), text)
    if isinstance(default, tuple):
        names = text.strip().removeprefix("[").removesuffix("]").split(",")
        return [name.strip().strip("\"'") for name in names]
    if isinstance(default, (int, float)):
        return type(default)(text)
    return text
