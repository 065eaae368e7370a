"""The messages that are written to bags, as the rosbags library makes them, no ROS needed."""

from __future__ import annotations

from typing import Any

import numpy as np

from pose_node.poses import Poses, Skeleton
from pose_node.prediction.message_definitions import DEFINITIONS


class Messages:
    """Makes messages of one set of types.

    Attributes:
        typestore: of rosbags: the standard messages and this package's.
    """

    def __init__(self) -> None:
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore

        self.typestore: Any = get_typestore(Stores.ROS2_JAZZY)
        types: dict[str, Any] = {}
        for name, text in DEFINITIONS.items():
            types.update(get_types_from_msg(text, name))
        self.typestore.register(types)

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        """std_msgs/Header."""
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        time = self._message("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
        return self._message("std_msgs/msg/Header", stamp=time, frame_id=frame_id)

    def skeleton_info(self, header: Any, skeleton: Skeleton) -> Any:
        """pose_node/SkeletonInfo with the stamp of a header."""
        return self._message(
            "pose_node/msg/SkeletonInfo",
            header=self._message("std_msgs/msg/Header", stamp=header.stamp, frame_id=""),
            name=skeleton.name,
            keypoint_names=list(skeleton.keypoint_names),
            edges=np.array(skeleton.edges, np.uint16).reshape(-1),
            flip=np.array(skeleton.flip, np.uint16),
        )

    def pose_array(
        self, header: Any, size: tuple[int, int], poses: Poses, skeleton_name: str
    ) -> Any:
        """pose_node/PersonPoseArray; `size` is width and height of the image."""
        width, height = size
        people = [
            self._message(
                "pose_node/msg/PersonPose",
                track_id=track_id,
                score=score,
                bbox=self._message(
                    "pose_node/msg/BoundingBox", x_min=left, y_min=top, x_max=right, y_max=bottom
                ),
                keypoints=[
                    self._message("pose_node/msg/Keypoint", x=x, y=y, score=certainty)
                    for x, y, certainty in keypoints
                ],
            )
            for track_id, score, (left, top, right, bottom), keypoints in zip(
                poses.ids.tolist(),
                poses.scores.tolist(),
                poses.boxes_xyxy.tolist(),
                poses.keypoints.tolist(),
                strict=True,
            )
        ]
        return self._message(
            "pose_node/msg/PersonPoseArray",
            header=header,
            image_width=width,
            image_height=height,
            skeleton=skeleton_name,
            people=people,
        )

    def _message(self, msgtype: str, /, **fields: Any) -> Any:
        return self.typestore.types[msgtype](**fields)


def quality_of_service(durability: Any, *, depth: int) -> Any:
    """Reliable, with a durability of `rosbags.interfaces.QosDurability`."""
    from rosbags.interfaces import Qos, QosHistory, QosLiveliness, QosReliability, QosTime

    endless = QosTime(9223372036, 854775807)  # as rmw writes infinity
    return Qos(
        QosHistory.KEEP_LAST,
        depth,
        QosReliability.RELIABLE,
        durability,
        deadline=endless,
        lifespan=endless,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=endless,
        avoid_ros_namespace_conventions=False,
    )
