"""TF: a frame for each tracked person whose place is known, to follow or to look at."""

from __future__ import annotations

from typing import Any

import numpy as np
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from std_msgs.msg import Header

from pose_node.depth import Poses3D
from pose_node.ros.adapters.hri import body_id


def to_transforms(header: Header, people: Poses3D, camera: str = "") -> Any:
    """The frames of the people in one image.

    Args:
        header: whose frame the points are in; it becomes the parent.
        people: in metres.
        camera: its name, prefix of the frames' names.

    Returns:
        tf2_msgs/TFMessage: for each tracked person the frame "person<track id>" at the median of
        their known keypoints, its axes parallel to the parent's.
    """
    from tf2_msgs.msg import TFMessage

    positions = people.positions.astype(np.float64)
    return TFMessage(
        transforms=[
            TransformStamped(
                header=header,
                child_frame_id=body_id(camera, track_id),
                transform=Transform(translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(w=1.0)),
            )
            for track_id, (x, y, z) in zip(people.ids.tolist(), positions.tolist(), strict=True)
            if track_id >= 0 and np.isfinite([x, y, z]).all()
        ]
    )
