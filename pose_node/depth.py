"""People in space: keypoints of an image and the depth image that is registered to it, in metres.

A depth image is full of holes and of edges: where an arm ends, the wall begins. So a keypoint takes
the nearest surface in a small window around it, not an average, and what cannot belong to the same
body as the torso is left unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np

from pose_node.camera_model import CameraModel, same_aspect
from pose_node.errors import ImageError
from pose_node.poses import Poses, Skeleton, check_array

WINDOW = 0.025
"""Metres around a keypoint in which its depth is looked for: half the width of a forearm."""
REACH = 1.2
"""Metres: no keypoint is farther from the torso."""
LONGEST_LIMB = 0.75
"""Metres: no two joined keypoints are farther apart."""

_TORSO = ("shoulder", "hip", "neck", "chest", "thorax", "spine", "pelvis")
_TORSO_DEPTH = 0.35  # metres from the torso's middle to its joints, for somebody who stands
# The window until the person's distance is known, in parts of the box's size.
_FIRST_WINDOW = 0.03
_SMALLEST_WINDOW, _LARGEST_WINDOW = 1.0, 25.0  # pixels of the depth image
_LARGEST_GAP, _LARGEST_GAP_SHARE = 0.05, 0.02  # within a surface; metres, and parts of its distance
_FEWEST = 4  # samples that make a surface
_SMALLEST_SHARE = 0.25  # of the samples that have a depth
_GRID = np.stack(np.meshgrid(*[np.linspace(-1, 1, 5)] * 2), axis=-1).reshape(-1, 2)
_SAMPLES = _GRID[np.hypot(*_GRID.T) < 1.2]  # (21, 2), a disc


@dataclass(frozen=True)
class DepthOptions:
    """What may change while the node works.

    Attributes:
        keypoint_threshold: keypoints with a lower score stay unknown, see `lift`.
        slop: seconds, the largest difference between the stamps of colour and depth.
        patience: seconds to wait for a depth image, or a transform, that is late.
        rectified: the colour image is the rectified one: P of CameraInfo holds, not K and D.
        marker_lifetime: seconds until RViz removes a marker by itself, 0 for never.
    """

    keypoint_threshold: float = 0.3
    slop: float = 0.02
    patience: float = 0.05
    rectified: bool = False
    marker_lifetime: float = 0.5


@dataclass(frozen=True)
class Poses3D:
    """The people of one image in space: the same people in the same order as its `Poses`.

    Attributes:
        points: (N, K, 3) float32, x, y, z in metres, of the surface that the camera sees at each
            keypoint, in the optical frame of the colour image; all three NaN where unknown.
        keypoint_scores: (N, K) float32, 0 to 1, as in the image.
        scores: (N,) float32, 0 to 1.
        ids: (N,) int64, the track id of each person, -1 for none.
    """

    points: np.ndarray
    keypoint_scores: np.ndarray
    scores: np.ndarray
    ids: np.ndarray

    def __post_init__(self) -> None:
        check_array("Poses3D.points", self.points, "(N, K, 3)", 3, np.float32)
        check_array("Poses3D.keypoint_scores", self.keypoint_scores, "(N, K)", 2, np.float32)
        check_array("Poses3D.scores", self.scores, "(N,)", 1, np.float32)
        check_array("Poses3D.ids", self.ids, "(N,)", 1, np.int64)
        if self.points.shape != (*self.keypoint_scores.shape, 3) or not (
            len(self.points) == len(self.scores) == len(self.ids)
        ):
            shapes = (self.points, self.keypoint_scores, self.scores, self.ids)
            raise ValueError(
                "Poses3D must have points (N, K, 3), keypoint_scores (N, K), scores (N,) and ids "
                f"(N,) with the same N and K, got {', '.join(str(item.shape) for item in shapes)}"
            )

    def __len__(self) -> int:
        """Number of people, N."""
        return len(self.scores)

    @property
    def positions(self) -> np.ndarray:
        """(N, 3) float32, metres: where each person is.

        The median of the known keypoints in each direction, NaN without any.
        """
        return _median(self.points, axis=1)

    @classmethod
    def from_points(cls, points: np.ndarray, poses: Poses) -> Poses3D:
        """The people of `poses`, at (N, K, 3) points."""
        return cls(
            points.astype(np.float32),
            np.ascontiguousarray(poses.keypoints[:, :, 2]),
            poses.scores,
            poses.ids,
        )

    @classmethod
    def unknown(cls, poses: Poses) -> Poses3D:
        """The people of `poses`, all points unknown."""
        return cls.from_points(np.full(poses.keypoints.shape, np.nan), poses)

    def transformed(self, rotation: np.ndarray, translation: np.ndarray) -> Poses3D:
        """The same people in another frame.

        Args:
            rotation: (3, 3), from this frame into the other.
            translation: (3,), the origin of this frame in the other, metres.
        """
        points = self.points.astype(np.float64) @ np.asarray(rotation).T + translation
        return Poses3D(points.astype(np.float32), self.keypoint_scores, self.scores, self.ids)


def lift(
    poses: Poses,
    depth: np.ndarray,
    camera: CameraModel,
    *,
    skeleton: Skeleton | None = None,
    keypoint_threshold: float = 0.3,
) -> Poses3D:
    """Find the people of an image in space.

    Args:
        poses: in pixels of the colour image.
        depth: (H, W), registered to the colour image: float32 metres, where what is not finite and
            positive is unknown, or uint16 millimetres, where 0 is. Of the colour image's size, or
            the same image at another resolution.
        camera: of the colour image.
        skeleton: names the torso and joins the limbs; by default the one with that many keypoints.
        keypoint_threshold: keypoints with a lower score are hidden or outside the view more often
            than not, so that the depth there is of something else: they stay unknown.

    Returns:
        All people and all keypoints. Unknown are those outside the image, without depth, or at a
        depth that cannot be of this person: see `REACH` and `LONGEST_LIMB`.

    Raises:
        ImageError: the depth image has another aspect ratio, so it is not registered.
        ValueError: depth has another type or shape, or skeleton another number of keypoints.
    """
    skeleton = skeleton or Skeleton.for_keypoints(poses.num_keypoints)
    _check(poses, depth, camera, skeleton)
    if len(poses) == 0:
        return Poses3D.unknown(poses)
    scale = np.array([depth.shape[1] / camera.width, depth.shape[0] / camera.height])
    pixels = poses.keypoints[:, :, :2].astype(np.float64)
    with np.errstate(invalid="ignore"):  # a comparison with NaN is False
        seen = (
            (pixels >= 0).all(axis=2)
            & (pixels < (camera.width, camera.height)).all(axis=2)
            & (poses.keypoints[:, :, 2] >= keypoint_threshold)
        )
    pixels[~seen] = np.nan
    torso = _torso(skeleton)
    middle, spread = _torso_depth(poses, depth, pixels * scale, torso)
    radius = WINDOW * float(np.mean(camera.focal * scale)) / middle
    reach = np.full(pixels.shape[:2], REACH)
    reach[:, torso] = np.minimum(_TORSO_DEPTH + 3 * spread, REACH)[:, np.newaxis]
    distances = _surface(depth, pixels * scale, radius, middle, reach)
    rays = np.full(pixels.shape, np.nan)
    rays[seen] = camera.rays(pixels[seen])
    points = np.concatenate([rays, np.ones((*rays.shape[:2], 1))], axis=2)
    points = points * distances[..., np.newaxis]
    points[np.isnan(points).any(axis=2)] = np.nan
    _reject_long_limbs(points, skeleton)
    return Poses3D.from_points(points, poses)


def _check(poses: Poses, depth: np.ndarray, camera: CameraModel, skeleton: Skeleton) -> None:
    if depth.ndim != 2 or depth.dtype not in (np.uint16, np.float32) or 0 in depth.shape:
        raise ValueError(
            "depth must be (H, W) uint16 millimetres or float32 metres, "
            f"got {depth.dtype} {depth.shape}"
        )
    if skeleton.num_keypoints != poses.num_keypoints:
        raise ValueError(
            f"skeleton {skeleton.name!r} has {skeleton.num_keypoints} keypoints, "
            f"the poses have {poses.num_keypoints}"
        )
    height, width = depth.shape
    if not same_aspect((width, height), (camera.width, camera.height)):
        raise ImageError(
            f"the depth image has {width}x{height} pixels, the colour image {camera.width}x"
            f"{camera.height}, another aspect ratio: they are not registered; use the depth topic "
            "that is aligned to colour (RealSense: align_depth.enable:=true)",
            kind="depth not registered",
        )


@lru_cache(maxsize=32)
def _torso(skeleton: Skeleton) -> list[int]:
    """The keypoints of the torso, by their names; all where none has such a name."""
    named = [
        index
        for index, name in enumerate(skeleton.keypoint_names)
        if any(part in name.lower() for part in _TORSO)
    ]
    return named or list(range(skeleton.num_keypoints))


@lru_cache(maxsize=32)
def _outwards(skeleton: Skeleton) -> list[tuple[list[int], list[int]]]:
    """The limbs from the torso outwards: of each round, nearer and farther ends."""
    joined: dict[int, list[int]] = {}
    for first, second in skeleton.edges:
        joined.setdefault(first, []).append(second)
        joined.setdefault(second, []).append(first)
    rounds, ends = [], _torso(skeleton)
    reached = set(ends)
    while ends:
        limbs = {outer: inner for inner in ends for outer in joined.get(inner, ())}
        limbs = {outer: inner for outer, inner in limbs.items() if outer not in reached}
        ends = list(limbs)
        reached.update(ends)
        if ends:
            rounds.append((list(limbs.values()), ends))
    return rounds


def _torso_depth(
    poses: Poses, depth: np.ndarray, pixels: np.ndarray, torso: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """How far each person is, NaN if unknown, and the median deviation: (N,) each, metres.

    Looks at the torso's keypoints and, safer from edges, between them.
    """
    joints = pixels[:, torso]
    between = [(joints[:, a] + joints[:, b]) / 2 for a, b in combinations(range(len(torso)), 2)][:6]
    joints = np.concatenate([joints, *(points[:, np.newaxis] for points in between)], axis=1)
    with np.errstate(invalid="ignore"):
        sides = poses.boxes_xyxy[:, 2:].astype(np.float64) - poses.boxes_xyxy[:, :2]
        radius = _FIRST_WINDOW * np.sqrt(np.maximum(sides, 0).prod(axis=1))
    everything = np.full(joints.shape[:2], np.inf)
    found = _surface(depth, joints, radius, np.zeros(len(poses)), everything)
    lost = np.isnan(found).all(axis=1)
    if lost.any():  # only the head or a leg may be in view
        others = np.full((len(poses), pixels.shape[1]), np.inf)
        everywhere = _surface(depth, pixels, radius, np.zeros(len(poses)), others)
        middle = np.where(lost, _median(everywhere, axis=1), _median(found, axis=1))
    else:
        middle = _median(found, axis=1)
    return middle, np.nan_to_num(_median(np.abs(found - middle[:, np.newaxis]), axis=1))


def _surface(
    depth: np.ndarray,
    pixels: np.ndarray,
    radius: np.ndarray,
    middle: np.ndarray,
    reach: np.ndarray,
) -> np.ndarray:
    """The distance of the nearest surface in a window around each point.

    Args:
        depth: (H, W).
        pixels: (N, M, 2), in pixels of the depth image; NaN gives NaN.
        radius: (N,) of the windows, in such pixels.
        middle, reach: (N,) and (N, M), metres: what is farther than `reach` from `middle` does not
            count.

    Returns:
        (N, M), metres, NaN where there is none.
    """
    radius = np.clip(np.nan_to_num(radius), _SMALLEST_WINDOW, _LARGEST_WINDOW)[:, np.newaxis]
    x, y = (
        pixels[:, :, axis, np.newaxis] + (radius * _SAMPLES[:, axis])[:, np.newaxis]
        for axis in (0, 1)
    )
    samples = _sample(depth, x, y)
    with np.errstate(invalid="ignore"):
        off = np.abs(samples - middle[:, np.newaxis, np.newaxis])
        samples[~(off <= reach[..., np.newaxis])] = np.nan
    return _nearest_surface(samples.reshape(-1, len(_SAMPLES))).reshape(pixels.shape[:2])


def _sample(depth: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Float32 metres at pixels, NaN where unknown or outside."""
    height, width = depth.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x, y = np.where(inside, x, 0), np.where(inside, y, 0)
    metres = depth[y.astype(np.intp), x.astype(np.intp)].astype(np.float32)
    if depth.dtype == np.uint16:
        metres *= np.float32(0.001)
    metres[~(inside & (metres > 0) & (metres < np.inf))] = np.nan
    return metres


def _nearest_surface(samples: np.ndarray) -> np.ndarray:
    """The median of the nearest surface of each window.

    Sorted by depth, the samples of a surface follow each other closely; the next one begins after a
    gap. A surface of few samples is noise, such as the false depths at the rim of an arm.

    Args:
        samples: (M, S) metres, NaN for unknown.

    Returns:
        (M,) metres, NaN where there is no surface.
    """
    count, size = samples.shape
    ordered = np.sort(samples, axis=1)  # NaN comes last
    known = np.count_nonzero(~np.isnan(ordered), axis=1)
    with np.errstate(invalid="ignore"):
        gaps = np.diff(ordered, axis=1) > np.maximum(
            _LARGEST_GAP, _LARGEST_GAP_SHARE * ordered[:, :-1]
        )
    surface = np.zeros((count, size), np.intp)
    surface[:, 1:] = np.cumsum(gaps, axis=1)
    surface += np.arange(count)[:, np.newaxis] * size
    members = np.bincount(surface[~np.isnan(ordered)], minlength=count * size)[surface]
    enough = np.maximum(_FEWEST, _SMALLEST_SHARE * known)[:, np.newaxis]
    good = (members >= enough) & ~np.isnan(ordered)
    first = good.argmax(axis=1)
    every = np.arange(count)
    last = first + members[every, first] - 1
    lower, upper = (
        ordered[every, (first + last) // 2],
        ordered[every, (first + last + 1) // 2 % size],
    )
    return np.where(good.any(axis=1), (lower + upper) / 2, np.float32(np.nan))


def _reject_long_limbs(points: np.ndarray, skeleton: Skeleton) -> None:
    """Make unknown, in place, what is farther from its neighbour towards the torso than a limb.

    Args:
        points: (N, K, 3) metres.
    """
    anchors = points.copy()
    limits = np.full(points.shape[:2], LONGEST_LIMB)
    for inner, outer in _outwards(skeleton):
        found = points[:, outer]
        length = np.sqrt(np.square(found - anchors[:, inner]).sum(axis=2))
        with np.errstate(invalid="ignore"):
            found[length > limits[:, inner]] = np.nan
        points[:, outer] = found
        # Beyond an unknown joint, two limbs together may be so long.
        unknown = np.isnan(found[:, :, 0])
        anchors[:, outer] = np.where(unknown[..., np.newaxis], anchors[:, inner], found)
        limits[:, outer] = np.where(unknown, limits[:, inner] + LONGEST_LIMB, LONGEST_LIMB)


def _median(values: np.ndarray, axis: int) -> np.ndarray:
    """As `np.nanmedian`, without its warning where all are NaN, and faster."""
    ordered = np.sort(values, axis=axis)
    known = np.count_nonzero(~np.isnan(ordered), axis=axis, keepdims=True)
    lower = np.take_along_axis(ordered, np.maximum(known - 1, 0) // 2, axis)
    upper = np.take_along_axis(ordered, np.minimum(known // 2, ordered.shape[axis] - 1), axis)
    return np.asarray((lower + upper) / 2).squeeze(axis)
