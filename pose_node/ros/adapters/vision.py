"""vision_msgs/Detection2DArray: the boxes, for whatever works with detections."""

from __future__ import annotations

from typing import Any

from std_msgs.msg import Header

from pose_node.poses import Poses

PERSON = "person"
"""The class id of everybody."""


def to_detections(header: Header, poses: Poses) -> Any:
    """The boxes of one image.

    Args:
        header: of the image.
        poses: in pixels of the image.

    Returns:
        vision_msgs/Detection2DArray, one detection for each person with one hypothesis; its `id` is
        the track id, empty for who is not tracked.
    """
    from vision_msgs.msg import (
        BoundingBox2D,
        Detection2D,
        Detection2DArray,
        ObjectHypothesis,
        ObjectHypothesisWithPose,
        Point2D,
        Pose2D,
    )

    def to_detection(
        box: tuple[float, float, float, float], score: float, track_id: int
    ) -> Detection2D:
        left, top, right, bottom = box
        centre = Point2D(x=(left + right) / 2, y=(top + bottom) / 2)
        hypothesis = ObjectHypothesis(class_id=PERSON, score=score)
        return Detection2D(
            header=header,
            results=[ObjectHypothesisWithPose(hypothesis=hypothesis)],
            bbox=BoundingBox2D(
                center=Pose2D(position=centre, theta=0.0), size_x=right - left, size_y=bottom - top
            ),
            id=str(track_id) if track_id >= 0 else "",
        )

    rows = zip(poses.boxes_xyxy.tolist(), poses.scores.tolist(), poses.ids.tolist(), strict=True)
    return Detection2DArray(header=header, detections=[to_detection(*row) for row in rows])
