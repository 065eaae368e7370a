"""How alike the people of an image are to the people that are followed, and who is who."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from pose_node.tracking.tracks import MEASUREMENT, Detections, Tracks

# Of the similarity, at most so much comes from keypoints, the rest from the overlap of the boxes.
_KEYPOINT_SHARE = 0.8

# Area of a person over that of their box, as COCO's evaluation of keypoints has it.
_BODY_IN_BOX = 0.53

# Limbs move against the body: the falloff of a keypoint doubles in so many seconds unseen, up to ...
_LIMB_SECONDS = 0.3
_MOST_WIDENING = 2.0

# Nobody is searched for beyond this standard deviation, in body scales, however long unseen.
_SEARCH = 0.8
_GATE = 3.0  # standard deviations

# Who jumps or turns is elsewhere than expected, by this standard deviation in body scales a second
# unseen, for up to so many seconds: unlikely, but possible.
_SUDDEN = 2.0
_SUDDEN_SECONDS = 0.3
_SUDDEN_STRICT = 1.7
_EASE=.6


@dataclass(frozen=True)
class Comparison:
    """M tracks against the N people of an image.

    Attributes:
        similar: (M, N) 0 to 1: how alike in shape and size, 0 where it would be too far to go.
        likely: (M, N) 0 to 1: the same, less the further it is from where the track expects the
            person, and the less the track knows where to expect them.
        moved: (M, N, 2) pixels from where the track expects the person to where they are.
        trust: (M, N) 0 to 1: how well that is known.
    """

    similar: np.ndarray
    likely: np.ndarray
    moved: np.ndarray
    trust: np.ndarray


def compare(tracks: Tracks, people: Detections, sigmas: np.ndarray) -> Comparison:
    """Compare each track with each person.

    Where the person is and how they look are judged apart. The place: the mean displacement of the
    keypoints, against the covariance of the motion model. The looks, with the expected person moved
    as far towards the detected one as that covariance makes likely: object keypoint similarity as
    COCO defines it, each keypoint weighted by its scores on both sides, and the overlap of the
    boxes. So a track that has been lost for a while is found again at some distance, but not as
    somebody of another size or posture.

    Args:
        tracks: M tracks, predicted for the time of the image.
        people: N people.
        sigmas: (K,) falloffs of the skeleton.
    """
    points = tracks.points + tracks.position[:, None]
    boxes = tracks.box + np.tile(tracks.position, 2)
    between = people.points[None] - points[:, None]  # (M, N, K, 2)
    weights = tracks.point_scores[:, None] * people.point_scores
    total = weights.sum(axis=-1)
    trust = total / weights.shape[-1]
    moved = (weights[..., None] * between).sum(axis=2) / np.maximum(total, 1e-9)[..., None]
    by_box = (people.boxes[None] - boxes[:, None]).reshape(*total.shape, 2, 2).mean(axis=2)
    share = np.minimum(4 * trust, 1)
    moved = share[..., None] * moved + (1 - share[..., None]) * by_box

    area = tracks.scale[:, None] * people.scales
    expected = np.minimum(tracks.covariance[:, 0, None], _SEARCH**2 * area)
    sudden = (_SUDDEN * np.minimum(tracks.unseen, _SUDDEN_SECONDS))[:, None] ** 2 * area
    noise = MEASUREMENT**2 * area
    squared = (moved**2).sum(axis=-1)
    possible = squared <= _GATE**2 * (expected + sudden + noise)
    aligned = moved * ((expected + sudden) / (expected + sudden + noise))[..., None]

    widening = 1 + np.minimum(tracks.unseen / _LIMB_SECONDS, _MOST_WIDENING)
    falloff = 2 * _BODY_IN_BOX * area[..., None] * (2 * sigmas * widening[:, None, None]) ** 2
    distance = ((between - aligned[:, :, None]) ** 2).sum(axis=-1)
    by_points = (weights * np.exp(-distance / falloff)).sum(axis=-1) / np.maximum(total, 1e-9)
    by_boxes = overlap(boxes[:, None] + np.tile(aligned, 2), people.boxes[None])
    share = _KEYPOINT_SHARE * np.minimum(2 * trust, 1)
    similar = share * by_points + (1 - share) * by_boxes
    expected = expected + noise
    place = np.exp(-squared / (2 * expected)) * np.sqrt(0.1 * area / (0.1 * area + expected))
    ease = np.where(squared <= _GATE**2 * expected, 1 - _EASE * place, _SUDDEN_STRICT)
    similar = np.where(possible, np.minimum(similar / ease,1), 0)
    return Comparison(similar, similar*ease * place, moved, trust)


def overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of (..., 4) boxes, broadcast."""
    low = np.maximum(boxes[..., :2], others[..., :2])
    high = np.minimum(boxes[..., 2:], others[..., 2:])
    shared = np.maximum(high - low, 0).prod(axis=-1)
    first, second = ((b[..., 2:] - b[..., :2]).clip(0).prod(axis=-1) for b in (boxes, others))
    return np.asarray(shared / np.maximum(first + second - shared, 1e-9))


def doubles(people: Detections, others: Detections, sigmas: np.ndarray) -> np.ndarray:
    """(N,) the greatest keypoint similarity of each person to any of the others."""
    if not len(people) or not len(others):
        return np.zeros(len(people))
    area = people.scales[:, None] * others.scales
    distance = ((people.points[:, None] - others.points[None]) ** 2).sum(axis=-1)
    falloff = 2 * _BODY_IN_BOX * area[..., None] * (2 * sigmas) ** 2
    weights = people.point_scores[:, None] * others.point_scores
    alike = (weights * np.exp(-distance / falloff)).sum(axis=-1)
    return np.asarray((alike / np.maximum(weights.sum(axis=-1), 1e-9)).max(axis=1))


def assign(
    similar: np.ndarray, likely: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pair tracks with people so that the sum of `likely` is greatest.

    Args:
        similar: (M, N); pairs below the threshold are not made.
        likely: (M, N).
        threshold: least similarity.

    Returns:
        Rows and columns of the pairs.
    """
    allowed = similar >= threshold
    if not allowed.any():
        return np.empty(0, np.intp), np.empty(0, np.intp)
    rows, columns = linear_sum_assignment(np.where(allowed, likely, 0), maximize=True)
    made = allowed[rows, columns]
    return rows[made], columns[made]
