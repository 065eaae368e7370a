"""People, images and skeletons as what the Rerun SDK logs. Pure: values in, archetypes out.

Rerun draws limbs between the keypoints of one class, so every person of an image has a class of its
own. Classes that differ by a multiple of the number of colours look the same, so that a track can
keep its colour.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from pose_node.depth import Poses3D
from pose_node.drawing import TRACKS, joint_colors
from pose_node.poses import ChannelOrder, Poses, Skeleton
from pose_node.viewing.sdk import load_rerun

_JOINT_SIZE = 3.0  # points of the screen
_JOINT_RADIUS_3D = 0.02  # metres
# The largest id that a class may have.
_LAST_CLASS = 65535


def class_ids(track_ids: np.ndarray) -> np.ndarray:
    """A class for each person of one image, no two alike.

    Args:
        track_ids: (N,) int64; -1 for none.

    Returns:
        (N,) uint16: for a tracked person the first free class of the track's colour, for others the
        first free one of the colour of their place.
    """
    taken: set[int] = set()
    found = []
    for place, track_id in enumerate(track_ids.tolist()):
        number = (place if track_id < 0 else track_id) % len(TRACKS)
        while number in taken:
            number += len(TRACKS)
        taken.add(number)
        found.append(min(number, _LAST_CLASS))
    return np.array(found, np.uint16)


def annotation_context(skeleton: Skeleton, num_classes: int) -> Any:
    """Names, colours and limbs of so many classes (`rerun.AnnotationContext`)."""
    rerun = load_rerun()
    joints = [
        rerun.AnnotationInfo(id=index, label=name, color=_rgb(color))
        for index, (name, color) in enumerate(
            zip(skeleton.keypoint_names, joint_colors(skeleton), strict=True)
        )
    ]
    return rerun.AnnotationContext(
        [
            rerun.ClassDescription(
                info=rerun.AnnotationInfo(
                    id=number, label="person", color=_rgb(TRACKS[number % len(TRACKS)])
                ),
                keypoint_annotations=joints,
                keypoint_connections=list(skeleton.edges),
            )
            for number in range(num_classes)
        ]
    )


def image_archetype(
    image: np.ndarray, channel_order: ChannelOrder = "bgr", *, jpeg_quality: int = 80
) -> Any:
    """An image as JPEG (`rerun.EncodedImage`).

    Args:
        image: (H, W, 3) uint8.
        channel_order: "bgr" or "rgb".
        jpeg_quality: 1 to 100.
    """
    bgr = image if channel_order == "bgr" else image[:, :, ::-1]
    _, jpeg = cv2.imencode(
        ".jpg", np.ascontiguousarray(bgr), [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality]
    )
    return load_rerun().EncodedImage(contents=jpeg.tobytes(), media_type="image/jpeg")


def boxes_archetype(poses: Poses) -> Any:
    """The boxes, with ids and scores as labels (`rerun.Boxes2D`)."""
    rerun = load_rerun()
    labels = [
        f"{score:.2f}" if track_id < 0 else f"#{track_id} {score:.2f}"
        for track_id, score in zip(poses.ids.tolist(), poses.scores.tolist(), strict=True)
    ]
    return rerun.Boxes2D(
        array=poses.boxes_xyxy,
        array_format=rerun.Box2DFormat.XYXY,
        labels=labels,
        class_ids=class_ids(poses.ids),
        show_labels=True,
    )


def keypoints_archetype(poses: Poses, *, keypoint_threshold: float) -> Any:
    """The keypoints with a score of at least the threshold (`rerun.Points2D`)."""
    rerun = load_rerun()
    shown = _shown(poses.keypoints[:, :, :2], poses.keypoints[:, :, 2], keypoint_threshold)
    classes, joints = _labels(poses.ids, shown)
    return rerun.Points2D(
        poses.keypoints[:, :, :2][shown],
        class_ids=classes,
        keypoint_ids=joints,
        radii=rerun.Radius.ui_points(_JOINT_SIZE),
        show_labels=False,
    )


def points_archetype(people: Poses3D, *, keypoint_threshold: float) -> Any:
    """The known points in space with a score of at least the threshold (`rerun.Points3D`)."""
    rerun = load_rerun()
    shown = _shown(people.points, people.keypoint_scores, keypoint_threshold)
    classes, joints = _labels(people.ids, shown)
    return rerun.Points3D(
        people.points[shown],
        class_ids=classes,
        keypoint_ids=joints,
        radii=_JOINT_RADIUS_3D,
        show_labels=False,
    )


def scores_archetypes(poses: Poses) -> dict[str, Any]:
    """A curve for each track, and one entity for all who have no track (`rerun.Scalars`)."""
    rerun = load_rerun()
    tracked = poses.ids >= 0
    found = {
        f"track_{track_id}": rerun.Scalars(score)
        for track_id, score in zip(
            poses.ids[tracked].tolist(), poses.scores[tracked].tolist(), strict=True
        )
    }
    if not tracked.all():
        found["untracked"] = rerun.Scalars(poses.scores[~tracked])
    return found


def curve_style(name: str) -> Any | None:
    """Name and colour of a curve of `scores_archetypes`; None where Rerun chooses them."""
    kind, _, number = name.partition("_")
    if kind != "track":
        return None
    color = _rgb(TRACKS[int(number) % len(TRACKS)])
    return load_rerun().SeriesLines(names=f"#{number}", colors=color)


def _shown(points: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """(N, K) bool: which keypoints are to be seen."""
    with np.errstate(invalid="ignore"):
        certain = scores >= threshold
    return np.asarray(certain & np.isfinite(points).all(axis=2))


def _labels(track_ids: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Class and keypoint ids of the keypoints that are to be seen."""
    people, joints = np.nonzero(shown)
    return class_ids(track_ids)[people], joints.astype(np.uint16)


def _rgb(bgr: tuple[int, int, int]) -> tuple[int, int, int]:
    return bgr[2], bgr[1], bgr[0]
