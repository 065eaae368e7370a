"""foxglove_msgs/ImageAnnotations: skeletons that Foxglove draws over the camera's own image."""

from __future__ import annotations

from typing import Any

import numpy as np
from std_msgs.msg import Header

from pose_node.drawing import TRACKS, UNTRACKED
from pose_node.poses import Poses, Skeleton


def to_annotations(
    header: Header, poses: Poses, skeleton: Skeleton, *, keypoint_threshold: float = 0.5
) -> Any:
    """The people of one image as lines, points and labels.

    Args:
        header: of the image, whose stamp Foxglove matches.
        poses: in pixels of the image.
        skeleton: gives the limbs.
        keypoint_threshold: keypoints with a lower score, and their limbs, are not drawn.

    Returns:
        foxglove_msgs/ImageAnnotations: for each person a box, limbs and joints, and a text.
    """
    from foxglove_msgs.msg import (
        Color,
        ImageAnnotations,
        Point2,
        PointsAnnotation,
        TextAnnotation,
    )

    def shape(kind: int, points: np.ndarray, color: Color, thickness: float) -> PointsAnnotation:
        return PointsAnnotation(
            timestamp=header.stamp,
            type=kind,
            points=[Point2(x=x, y=y) for x, y in points.reshape(-1, 2).tolist()],
            outline_color=color,
            thickness=thickness,
        )

    message = ImageAnnotations()
    if hasattr(message, "timestamp"):  # since 2026; above it each annotation has its own
        message.timestamp = header.stamp
    for person in range(len(poses)):
        keypoints = poses.keypoints[person].astype(np.float64)
        shown = np.isfinite(keypoints).all(axis=1) & (keypoints[:, 2] >= keypoint_threshold)
        limbs = [keypoints[list(edge), :2] for edge in skeleton.edges if shown[list(edge)].all()]
        left, top, right, bottom = poses.boxes_xyxy[person].astype(np.float64)
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        track_id = int(poses.ids[person])
        blue, green, red = UNTRACKED if track_id < 0 else TRACKS[track_id % len(TRACKS)]
        color = Color(r=red / 255, g=green / 255, b=blue / 255, a=1.0)
        message.points.append(shape(PointsAnnotation.LINE_LOOP, corners, color, 1.0))
        if limbs:
            lines = np.concatenate(limbs)
            message.points.append(shape(PointsAnnotation.LINE_LIST, lines, color, 2.0))
        if shown.any():
            message.points.append(shape(PointsAnnotation.POINTS, keypoints[shown, :2], color, 4.0))
        score = f"{poses.scores[person]:.2f}"
        message.texts.append(
            TextAnnotation(
                timestamp=header.stamp,
                position=Point2(x=left, y=top),
                text=score if track_id < 0 else f"#{track_id} {score}",
                font_size=14.0,
                text_color=Color(r=0.1, g=0.1, b=0.1, a=1.0),
                background_color=color,
            )
        )
    return message
