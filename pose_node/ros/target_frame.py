"""Points in a frame of the user's choice, by TF, where tf2_ros is installed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header

from pose_node.depth import Poses3D
from pose_node.errors import PoseNodeError


def check_target_frame(name: str) -> None:
    """Judge the parameter `target_frame`; "" is the camera's own frame and needs nothing.

    Raises:
        ValueError: it cannot be used, with the reason.
    """
    if not name:
        return
    if name.startswith("/"):
        raise ValueError(
            f"target_frame {name!r}: TF frames have no leading slash, use {name.lstrip('/')!r}"
        )
    try:
        import_module("tf2_ros")
    except ImportError as error:
        raise ValueError(
            f"target_frame {name!r} needs tf2_ros, which cannot be imported ({error}): install "
            "ros-$ROS_DISTRO-tf2-ros-py, or leave target_frame empty for the camera's own frame"
        ) from error


class TargetFrame:
    """Listens to TF and moves people into one frame.

    Args:
        node: whose executor receives the transforms, in another thread than the one that asks.
        name: the frame.

    Raises:
        ValueError: as `check_target_frame`.
    """

    def __init__(self, node: Node, name: str) -> None:
        check_target_frame(name)
        self.name = name
        self._tf2_ros: Any = import_module("tf2_ros")
        self._buffer = self._tf2_ros.Buffer()
        self._listener = self._tf2_ros.TransformListener(self._buffer, node)

    def transform(self, header: Header, people: Poses3D, *, patience_s: float) -> Poses3D:
        """Move people from the frame of an image, at its stamp.

        Args:
            header: of the image.
            people: in its frame.
            patience_s: wait at most so long for the transform.

        Raises:
            PoseNodeError: TF does not know that transform at that time.
        """
        try:
            stamp = Time.from_msg(header.stamp)
            found = self._buffer.lookup_transform(
                self.name, header.frame_id, stamp, timeout=Duration(seconds=patience_s)
            )
        except (self._tf2_ros.TransformException, ValueError) as error:  # a negative stamp
            raise PoseNodeError(
                f"no transform from {header.frame_id!r} to target_frame {self.name!r} at the "
                f"image's stamp: {error}"
            ) from error
        rotation, translation = found.transform.rotation, found.transform.translation
        return people.transformed(
            rotation_matrix(rotation.x, rotation.y, rotation.z, rotation.w),
            np.array([translation.x, translation.y, translation.z]),
        )

    def destroy(self) -> None:
        """Stop to listen."""
        self._listener.unregister()


def rotation_matrix(x: float, y: float, z: float, w: float) -> np.ndarray:
    """(3, 3) of a quaternion, which need not be exactly of length 1."""
    x, y, z, w = np.array([x, y, z, w]) / np.linalg.norm([x, y, z, w])
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
