"""How alike the people of an image are to the people that are followed, and who is who."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from pose_node.tracking.tracks import MEASUREMENT, Detections, Tracks

# Area of a person over that of their box, as COCO's evaluation of keypoints has it.
_BODY_IN_BOX = 0.53

# Of the looks, at most so much comes from keypoints, the rest from the overlap of the boxes; all of
# it once the mean product of the keypoints' scores on both sides reaches _ENOUGH.
_KEYPOINT_SHARE = 0.8
_ENOUGH = 0.25

# Limbs move against the body: the falloff of a keypoint grows by its own size in so many seconds
# unseen, up to so many times.
_LIMB_SECONDS = 0.3
_MOST_WIDENING = 2.0

# Nobody is searched for beyond this standard deviation, in body scales, however long unseen.
_SEARCH = 0.8
_GATE = 3.0  # standard deviations

# Who jumps or turns may be elsewhere than the motion model says, now and then: by a standard
# deviation that grows by so many body scales a second unseen, and ends with so many seconds; after
# longer, the motion model itself is unsure enough.
_SUDDEN = 6.0
_SUDDEN_SECONDS = 0.3
_SUDDEN_SHARE = 0.2

# How much the looks may be worse of somebody who is right where they were expected (half hidden,
# perhaps), and must be better of somebody who is not.
_EASE = 0.6
_STRICTNESS = 1.4

_PLACE = 0.1  # variance, in squared body scales, above which a place says little

# A pair is not made if somebody else is so much more likely to be the person, though not similar
# enough to be taken: better nobody than the wrong one.
_RIVAL_LIKELIHOOD = 2.0
_RIVAL_SIMILARITY = 0.5

# Two people of one image are the same from this keypoint similarity on, or where so much of a box
# lies within that of another, scored less than so much of its score.
_ALIKE = 0.6
_INSIDE = 0.8
_MUCH_WEAKER = 0.7


@dataclass(frozen=True)
class Comparison:
    """M tracks against the N people of an image.

    Attributes:
        similar: (M, N) 0 to 1: could it be them? How alike in looks; 0 where it is too far to go.
        likely: (M, N) 0 to 1: is it them rather than another? The looks, less the further it is
            from where they are expected, and the less is known of where to expect them.
        moved: (M, N, 2) pixels from where the track expects the person to where they are.
        trust: (M, N) 0 to 1: how well that is known.
    """

    similar: np.ndarray
    likely: np.ndarray
    moved: np.ndarray
    trust: np.ndarray


def compare(tracks: Tracks, people: Detections, sigmas: np.ndarray) -> Comparison:
    """Compare each track with each person.

    Place and looks are judged apart. The place: the mean displacement of the keypoints, against the
    covariance of the motion model and, now and then, a sudden move. The looks, with the expected
    person put where the detected one is, as far as that covariance allows: object keypoint
    similarity as COCO defines it, each keypoint weighted by its scores on both sides, and the
    overlap of the boxes. So a track that has been lost for a while is found again at some distance,
    but not as somebody of another size or posture.

    Args:
        tracks: M tracks, predicted for the time of the image.
        people: N people.
        sigmas: (K,) falloffs of the skeleton.
    """
    points = tracks.points + tracks.position[:, None]
    boxes = tracks.box + np.tile(tracks.position, 2)
    between = people.points[None] - points[:, None]  # (M, N, K, 2)
    weights = tracks.point_scores[:, None] * people.point_scores
    total = np.maximum(weights.sum(axis=-1), 1e-9)
    trust = total / weights.shape[-1]
    certain = np.minimum(trust / _ENOUGH, 1)
    by_points = np.einsum("mnk,mnkd->mnd", weights, between) / total[..., None]
    by_boxes = (people.boxes[None] - boxes[:, None]).reshape(*total.shape, 2, 2).mean(axis=2)
    moved = certain[..., None] * by_points + (1 - certain[..., None]) * by_boxes

    area = tracks.scale[:, None] * people.scales
    noise = MEASUREMENT**2 * area
    expected = np.minimum(tracks.covariance[:, 0, None], _SEARCH**2 * area) + noise
    sudden = _SUDDEN * tracks.unseen * np.exp(-tracks.unseen / _SUDDEN_SECONDS)
    sudden = sudden[:, None] ** 2 * area
    place, ease = _places((moved**2).sum(axis=-1), expected, expected + sudden, area)

    aligned = moved * (1 - noise / (expected + sudden))[..., None]
    widening = 1 + np.minimum(tracks.unseen / _LIMB_SECONDS, _MOST_WIDENING)
    falloff = area[..., None] * _falloff(sigmas) * widening[:, None, None] ** 2
    away = between - aligned[:, :, None]
    alike = np.exp(-np.einsum("mnkd,mnkd->mnk", away, away) / falloff)
    alike = np.einsum("mnk,mnk->mn", weights, alike) / total
    share = _KEYPOINT_SHARE * certain
    looks = share * alike + (1 - share) * overlap(
        boxes[:, None] + np.tile(aligned, 2), people.boxes[None]
    )
    return Comparison(np.minimum(looks * ease, 1), looks * place, moved, trust)


def _places(
    squared: np.ndarray, expected: np.ndarray, sudden: np.ndarray, area: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How likely a place is, 0 to about 1, and the factor that the looks get for it.

    Args:
        squared: distance from the expected place, squared.
        expected: variance of that place.
        sudden: variance of that place after a sudden move.
        area: square of the body scale.
    """

    def density(variance: np.ndarray) -> np.ndarray:
        sharpness = _PLACE * area / (_PLACE * area + variance)
        return np.asarray(np.exp(-squared / (2 * variance)) * sharpness)

    place = density(expected) + _SUDDEN_SHARE * density(sudden)
    ease = np.where(squared <= _GATE**2 * expected, 1 / (1 - _EASE * place), 1 / _STRICTNESS)
    return place, np.where(squared <= _GATE**2 * sudden, ease, 0)


def _falloff(sigmas: np.ndarray) -> np.ndarray:
    """(K,) what to divide a squared distance over the squared body scale by, as COCO does."""
    return np.asarray(2 * _BODY_IN_BOX * (2 * sigmas) ** 2)


def overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of (..., 4) boxes, broadcast."""
    first, second = ((b[..., 2:] - b[..., :2]).clip(0).prod(axis=-1) for b in (boxes, others))
    shared = _shared_area(boxes, others)
    return np.asarray(shared / np.maximum(first + second - shared, 1e-9))


def _shared_area(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    low = np.maximum(boxes[..., :2], others[..., :2])
    high = np.minimum(boxes[..., 2:], others[..., 2:])
    return np.asarray(np.maximum(high - low, 0).prod(axis=-1))


def doubles(people: Detections, others: Detections, sigmas: np.ndarray) -> np.ndarray:
    """(N, M) whether each person is each of the others once more.

    That is: all keypoints in the same place, or a much weaker box inside theirs.
    """
    area = people.scales[:, None] * others.scales
    away = people.points[:, None] - others.points[None]
    weights = people.point_scores[:, None] * others.point_scores
    falloff = area[..., None] * _falloff(sigmas)
    alike = weights * np.exp(-np.einsum("mnkd,mnkd->mnk", away, away) / falloff)
    alike = alike.sum(axis=-1) / np.maximum(weights.sum(axis=-1), 1e-9)
    shared = _shared_area(people.boxes[:, None], others.boxes[None])
    inside = shared > _INSIDE * people.scales[:, None] ** 2
    weaker = people.scores[:, None] < _MUCH_WEAKER * others.scores
    return np.asarray((alike > _ALIKE) | (inside & weaker))


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
    rivals = np.where(similar >= _RIVAL_SIMILARITY * threshold, likely, 0).max(axis=0)
    made = allowed[rows, columns]
    made &= _RIVAL_LIKELIHOOD * likely[rows, columns] >= rivals[columns]
    return rows[made], columns[made]
