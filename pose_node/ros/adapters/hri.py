"""hri_msgs, the bodies of REP-155 (ROS4HRI): a list of ids, and topics of their own for each body.

Joints are matched by name: hri_msgs has an order of its own, and a neck, which is put midway
between the shoulders. Only who is tracked has an id, and so a body.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from std_msgs.msg import Header

from pose_node.poses import Poses, Skeleton

BODIES = "/humans/bodies"
"""Where REP-155 puts them; it knows no namespaces."""

KEPT_SECONDS = 10.0
"""The topics of a body stay so long after it was seen: who is missed in a few images comes again,
and whoever listens would have to find the new topics first."""

_NO_BOX = (0.0, 0.0, 0.0, 0.0)


def body_id(camera: str, track_id: int) -> str:
    """The id of a body: a valid part of a topic's name, unique among the cameras of the node."""
    prefix = re.sub(r"\W", "_", camera, flags=re.ASCII)
    return f"{prefix}_person{track_id}" if prefix else f"person{track_id}"


def to_ids_list(header: Header, ids: list[str]) -> Any:
    """hri_msgs/IdsList of the bodies that are tracked."""
    from hri_msgs.msg import IdsList

    return IdsList(header=header, ids=ids)


def to_skeleton_2d(
    header: Header, size: tuple[int, int], poses: Poses, person: int, skeleton: Skeleton
) -> Any:
    """The joints of one person.

    Args:
        header: of the image.
        size: width and height of the image, pixels.
        poses: in pixels of the image.
        person: index of the person.
        skeleton: names the keypoints, such as "left_shoulder".

    Returns:
        hri_msgs/Skeleton2D: x and y as parts of the image's size; outside it, where REP-155 has no
        numbers, and for joints that the skeleton lacks, all is 0.
    """
    from hri_msgs.msg import NormalizedPointOfInterest2D, Skeleton2D

    named = dict(zip(skeleton.keypoint_names, poses.keypoints[person].tolist(), strict=True))
    if "neck" not in named and {"left_shoulder", "right_shoulder"} <= named.keys():
        shoulders = np.array([named["left_shoulder"], named["right_shoulder"]])
        named["neck"] = [*shoulders[:, :2].mean(axis=0).tolist(), float(shoulders[:, 2].min())]
    points = [NormalizedPointOfInterest2D() for _ in range(18)]
    for name, (x, y, score) in named.items():
        # Constants of the message, so that its order is nowhere written twice.
        index = getattr(Skeleton2D, name.upper(), None)
        if index is not None and 0 <= x <= size[0] and 0 <= y <= size[1]:
            points[index] = NormalizedPointOfInterest2D(x=x / size[0], y=y / size[1], c=score)
    return Skeleton2D(header=header, skeleton=points)


def to_region(header: Header, size: tuple[int, int], poses: Poses, person: int) -> Any:
    """hri_msgs/NormalizedRegionOfInterest2D: the box of one person; arguments as above."""
    from hri_msgs.msg import NormalizedRegionOfInterest2D

    width, height = size
    scale = np.array([width, height, width, height])
    box = np.clip(poses.boxes_xyxy[person] / scale, 0, 1)
    left, top, right, bottom = box.tolist() if np.isfinite(box).all() else _NO_BOX
    return NormalizedRegionOfInterest2D(
        header=header,
        xmin=left,
        ymin=top,
        xmax=right,
        ymax=bottom,
        c=float(poses.scores[person]),
    )


class Bodies:
    """The topics of all bodies: made when somebody comes, taken away when they have left.

    Args:
        node: the node that they belong to.
        camera: name of the camera, part of the ids.
        now: the clock, in seconds.
    """

    def __init__(self, node: Node, camera: str, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._node = node
        self._camera = camera
        self._types: Any = import_module("hri_msgs.msg")
        self._tracked = self._publisher(self._types.IdsList, "tracked")
        self._bodies: dict[str, tuple[Publisher[Any], Publisher[Any]]] = {}
        self._seen: dict[str, float] = {}  # when each of them was seen last

    def publish(
        self, header: Header, size: tuple[int, int], poses: Poses, skeleton: Skeleton
    ) -> None:
        """Publish the people of an image of `size` (width, height)."""
        people = {
            body_id(self._camera, track_id): person
            for person, track_id in enumerate(poses.ids.tolist())
            if track_id >= 0
        }
        now = self._now()
        self._seen |= dict.fromkeys(people, now)
        for name in [name for name, seen in self._seen.items() if now - seen > KEPT_SECONDS]:
            del self._seen[name]
            self._destroy(self._bodies.pop(name))
        for name, person in people.items():
            if name not in self._bodies:
                self._bodies[name] = (
                    self._publisher(self._types.Skeleton2D, f"{name}/skeleton2d"),
                    self._publisher(self._types.NormalizedRegionOfInterest2D, f"{name}/roi"),
                )
            joints, region = self._bodies[name]
            joints.publish(to_skeleton_2d(header, size, poses, person, skeleton))
            region.publish(to_region(header, size, poses, person))
        self._tracked.publish(to_ids_list(header, list(people)))

    def destroy(self) -> None:
        """Take the topics away."""
        for publishers in self._bodies.values():
            self._destroy(publishers)
        self._bodies, self._seen = {}, {}
        self._destroy((self._tracked,))

    def _publisher(self, kind: type, name: str) -> Publisher[Any]:
        return self._node.create_publisher(kind, f"{BODIES}/{name}", QoSProfile(depth=1))

    def _destroy(self, publishers: tuple[Publisher[Any], ...]) -> None:
        for publisher in publishers:
            self._node.destroy_publisher(publisher)
