"""Publishes what the parameter `adapters` names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from std_msgs.msg import Header

from pose_node.depth import Poses3D
from pose_node.poses import Frame, Poses, Skeleton
from pose_node.ros.adapters.foxglove import to_annotations
from pose_node.ros.adapters.frames import to_transforms
from pose_node.ros.adapters.hri import Bodies
from pose_node.ros.adapters.vision import to_detections

ADAPTERS: Mapping[str, str] = MappingProxyType(
    {
        "vision_msgs": "vision_msgs",
        "hri_msgs": "hri_msgs",
        "foxglove_msgs": "foxglove_msgs",
        "tf": "tf2_msgs",
    }
)
"""The names that the parameter takes, and the package that each one needs."""


def check_adapters(names: Sequence[str], cameras: Sequence[str] = ("",)) -> None:
    """Judge the parameter `adapters`, for a node with these cameras.

    Raises:
        ValueError: a name is not known, its package is not installed, or it takes one camera only.
    """
    for name in names:
        if name not in ADAPTERS:
            raise ValueError(f"adapters: {name!r} is not known, expected {', '.join(ADAPTERS)}")
        try:
            import_module(f"{ADAPTERS[name]}.msg")
        except ImportError as error:
            package = ADAPTERS[name]
            raise ValueError(
                f"adapters: {name!r} needs the package {package}, which cannot be imported "
                f"({error}): install ros-$ROS_DISTRO-{package.replace('_', '-')}"
            ) from error
    if "hri_msgs" in names and len(cameras) > 1:
        raise ValueError(
            "adapters: 'hri_msgs' takes one camera, as REP-155 has one list of bodies, got "
            f"{len(cameras)}: run a node for each, and only one of them with this adapter"
        )


class Adapters:
    """The topics of the adapters of one camera.

    Args:
        node: the node that they belong to.
        camera: its name, "" for the only one; prefix of the topics.
        names: which; see `ADAPTERS`.

    Raises:
        ValueError: as `check_adapters`.
    """

    def __init__(self, node: Node, camera: str, names: Sequence[str]) -> None:
        check_adapters(names)
        self._node = node
        self._camera = camera
        prefix = f"{camera}/" if camera else ""
        self._publishers: dict[str, Publisher[Any]] = {}
        for name, kind, topic in (
            ("vision_msgs", "Detection2DArray", f"{prefix}detections"),
            ("foxglove_msgs", "ImageAnnotations", f"{prefix}image_annotations"),
            ("tf", "TFMessage", "/tf"),
        ):
            if name in names:
                message = getattr(import_module(f"{ADAPTERS[name]}.msg"), kind)
                depth = 100 if name == "tf" else 5  # as tf2_ros has it
                self._publishers[name] = node.create_publisher(
                    message, topic, QoSProfile(depth=depth)
                )
        self._bodies = Bodies(node, camera) if "hri_msgs" in names else None

    @property
    def wants_space(self) -> bool:
        """Whether somebody needs the people in space."""
        tf = self._publishers.get("tf")
        return tf is not None and tf.get_subscription_count() > 0

    def publish(
        self,
        header: Header,
        frame: Frame,
        poses: Poses,
        skeleton: Skeleton,
        in_space: tuple[Header, Poses3D] | None = None,
    ) -> None:
        """Publish the people of one image, as far as anyone listens.

        Args:
            header: of the image.
            frame, poses, skeleton: the image and its people.
            in_space: the same in space and the header with their frame, as `DepthTopics.deliver`
                gives them.
        """
        self._send("vision_msgs", lambda: to_detections(header, poses))
        self._send("foxglove_msgs", lambda: to_annotations(header, poses, skeleton))
        if in_space is not None:
            shown, people = in_space
            self._send("tf", lambda: to_transforms(shown, people, self._camera))
        if self._bodies is not None:
            self._bodies.publish(header, (frame.width, frame.height), poses, skeleton)

    def destroy(self) -> None:
        """Take the topics away."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers = {}
        if self._bodies is not None:
            self._bodies.destroy()
            self._bodies = None

    def _send(self, name: str, make: Callable[[], Any]) -> None:
        publisher = self._publishers.get(name)
        if publisher is not None and publisher.get_subscription_count() > 0:
            publisher.publish(make())
