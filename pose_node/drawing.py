"""Draws people on an image: box, limbs, joints, score and track id.

Knows no skeleton by heart: sides come from the flip pairs and the names of the keypoints. A
skeleton without sides, such as that of a hand, gets a colour for each keypoint instead.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from pose_node.poses import Frame, Poses, Skeleton

Color = tuple[int, int, int]

LEFT: Color = (255, 170, 40)  # blue; all colours are blue, green, red
RIGHT: Color = (40, 130, 255)  # orange
CENTRE: Color = (190, 230, 120)  # pale green
OUTLINE: Color = (30, 30, 30)
UNTRACKED: Color = (235, 235, 235)
TRACKS: tuple[Color, ...] = (
    *((120, 230, 120), (250, 180, 90), (130, 130, 255), (90, 220, 250), (230, 140, 230)),
    *((220, 220, 110), (150, 190, 255), (190, 140, 255), (140, 240, 190), (255, 200, 200)),
)
"""Box colours; a track keeps the one of its id."""

_SHIFT = 4  # OpenCV takes coordinates in 1/16 pixel
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_poses(
    image_bgr: np.ndarray, poses: Poses, skeleton: Skeleton, *, keypoint_threshold: float = 0.5
) -> np.ndarray:
    """Draw people on a copy of an image.

    Args:
        image_bgr: (H, W, 3) uint8, blue, green, red; stays as it is.
        poses: people in pixels of this image; whatever lies outside it is cut off, and what is not
            finite is left out.
        skeleton: gives the limbs and the sides, K as in `poses`.
        keypoint_threshold: keypoints with a lower score, and their limbs, are not drawn.

    Returns:
        New (H, W, 3) uint8 image, blue, green, red.

    Raises:
        ValueError: skeleton and poses have different numbers of keypoints.
    """
    if skeleton.num_keypoints != poses.num_keypoints:
        raise ValueError(
            f"skeleton {skeleton.name!r} has {skeleton.num_keypoints} keypoints, "
            f"the poses have {poses.num_keypoints}"
        )
    canvas = np.array(image_bgr, order="C")
    _draw_people(canvas, poses, skeleton, keypoint_threshold)
    return canvas


def draw_frame(
    frame: Frame, poses: Poses, skeleton: Skeleton, *, keypoint_threshold: float = 0.5
) -> np.ndarray:
    """As `draw_poses`, for the image of a frame in whatever channel order; returns BGR."""
    image = frame.image if frame.channel_order == "bgr" else frame.image[:, :, ::-1]
    return draw_poses(image, poses, skeleton, keypoint_threshold=keypoint_threshold)


def sides(skeleton: Skeleton) -> tuple[str, ...]:
    """The side of each keypoint, "left", "right" or "centre" (the person's own left and right)."""
    found = []
    for index, (name, other) in enumerate(zip(skeleton.keypoint_names, skeleton.flip, strict=True)):
        if other == index:
            found.append("centre")
        elif name.startswith(("left", "right")):
            found.append("left" if name.startswith("left") else "right")
        else:
            found.append("left" if index < other else "right")
    return tuple(found)


def _draw_people(canvas: np.ndarray, poses: Poses, skeleton: Skeleton, threshold: float) -> None:
    colors = joint_colors(skeleton)
    # The eye wants lines of the same weight, whatever the camera's resolution.
    thickness = max(1, round(min(canvas.shape[:2]) / 320))
    for person in reversed(range(len(poses))):  # the best one last, on top
        keypoints = poses.keypoints[person].astype(np.float64)
        with np.errstate(invalid="ignore"):
            shown = np.isfinite(keypoints).all(axis=1) & (keypoints[:, 2] >= threshold)
        limbs = [
            (keypoints[a, :2], keypoints[b, :2], _limb_color(colors[a], colors[b]))
            for a, b in skeleton.edges
            if shown[a] and shown[b]
        ]
        joints = [(keypoints[k, :2], colors[k]) for k in np.flatnonzero(shown)]
        track_id = int(poses.ids[person])
        color = UNTRACKED if track_id < 0 else TRACKS[track_id % len(TRACKS)]
        label = (
            f"{poses.scores[person]:.2f}"
            if track_id < 0
            else f"#{track_id} {poses.scores[person]:.2f}"
        )
        box = poses.boxes_xyxy[person].astype(np.float64)
        radius = _joint_radius(box, len(keypoints), thickness)
        _draw_limbs(canvas, limbs, min(thickness, max(1, round(radius))))
        _draw_joints(canvas, joints, radius)
        _draw_box(canvas, box, label, color, thickness)


def joint_colors(skeleton: Skeleton) -> tuple[Color, ...]:
    """The colour of each keypoint: by its side or, where there are no sides, round the hues."""
    found = sides(skeleton)
    if skeleton.num_keypoints > 1 and set(found) == {"centre"}:
        hues = np.linspace(0, 180, skeleton.num_keypoints, endpoint=False)  # OpenCV halves degrees
        wheel = np.array([[(hue, 160, 255) for hue in hues]], np.uint8)
        return tuple(
            (blue, green, red)
            for blue, green, red in cv2.cvtColor(wheel, cv2.COLOR_HSV2BGR)[0].tolist()
        )
    colors = {"left": LEFT, "right": RIGHT, "centre": CENTRE}
    return tuple(colors[side] for side in found)


def _joint_radius(box: np.ndarray, num_keypoints: int, thickness: int) -> float:
    """In pixels: small enough that the joints of a small person or hand do not hide each other."""
    largest = thickness + 2.0
    width, height = box[2] - box[0], box[3] - box[1]
    if not (width > 0 and height > 0 and np.isfinite(width * height)):
        return largest
    # A quarter of the distance of keypoints that fill the box evenly.
    return float(np.clip(np.sqrt(width * height / num_keypoints) / 4, 1.5, largest))


def _limb_color(first: Color, second: Color) -> Color:
    # A limb between the sides is of none; one between two of a wheel's colours goes with its end.
    if first == second or {first, second} - {LEFT, RIGHT, CENTRE}:
        return second
    return CENTRE


def _draw_limbs(
    canvas: np.ndarray, limbs: Iterable[tuple[np.ndarray, np.ndarray, Color]], thickness: int
) -> None:
    for start, end, color in limbs:
        segment = _clip_segment(start, end, canvas.shape)
        if segment is None:
            continue
        # A dark rim keeps the limb readable on a background of its own colour.
        for limb_color, width in ((OUTLINE, thickness + 2), (color, thickness)):
            cv2.line(canvas, *segment, limb_color, width, lineType=cv2.LINE_AA, shift=_SHIFT)


def _draw_joints(
    canvas: np.ndarray, joints: Iterable[tuple[np.ndarray, Color]], radius_pixels: float
) -> None:
    height, width = canvas.shape[:2]
    radius = round(radius_pixels * (1 << _SHIFT))
    for point, color in joints:
        if not (0 <= point[0] <= width and 0 <= point[1] <= height):
            continue
        centre = _fixed_point(point)
        for disc_color, size in ((OUTLINE, radius + (1 << _SHIFT)), (color, radius)):
            cv2.circle(
                canvas, centre, size, disc_color, cv2.FILLED, lineType=cv2.LINE_AA, shift=_SHIFT
            )


def _draw_box(
    canvas: np.ndarray, box: np.ndarray, label: str, color: Color, thickness: int
) -> None:
    """A rectangle with its label above the top-left corner, or inside it at the image's top."""
    if not np.isfinite(box).all():
        return
    height, width = canvas.shape[:2]
    left, top, right, bottom = (
        np.clip(np.round(box), 0, [width - 1, height - 1, width - 1, height - 1])
        .astype(int)
        .tolist()
    )
    line = max(1, thickness // 2)
    cv2.rectangle(canvas, (left, top), (right, bottom), color, line, lineType=cv2.LINE_AA)
    scale = max(0.35, min(height, width) / 1100)
    (text_width, text_height), _ = cv2.getTextSize(label, _FONT, scale, line)
    margin = max(2, text_height // 3)
    tag_height = text_height + 2 * margin
    tag_top = top - tag_height if top >= tag_height else top
    tag_left = max(0, min(left, width - text_width - 2 * margin))
    cv2.rectangle(
        canvas,
        (tag_left, tag_top),
        (tag_left + text_width + 2 * margin, tag_top + tag_height),
        color,
        cv2.FILLED,
    )
    origin = (tag_left + margin, tag_top + tag_height - margin)
    cv2.putText(canvas, label, origin, _FONT, scale, OUTLINE, line, cv2.LINE_AA)


def _clip_segment(
    start: np.ndarray, end: np.ndarray, shape: tuple[int, ...]
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The part of a segment near the image in OpenCV's fixed point, None if there is none.

    A network may put a keypoint millions of pixels away, more than OpenCV's integers hold. Cut by
    Liang and Barsky (1984) to the image with a margin of its own size, so that no cut end shows.
    """
    size = np.array([shape[1], shape[0]], np.float64)
    direction = end - start
    entry, leave = 0.0, 1.0
    for axis in range(2):
        low, high = -size[axis] - start[axis], 2 * size[axis] - start[axis]
        if direction[axis] == 0:
            if low > 0 or high < 0:
                return None
            continue
        first, second = sorted((low / direction[axis], high / direction[axis]))
        entry, leave = max(entry, first), min(leave, second)
    if entry > leave:
        return None
    return _fixed_point(start + entry * direction), _fixed_point(start + leave * direction)


def _fixed_point(point: np.ndarray) -> tuple[int, int]:
    # OpenCV counts from the centre of the top-left pixel, our values from its corner.
    x, y = np.round((point - 0.5) * (1 << _SHIFT)).astype(int).tolist()
    return x, y
