"""The people that a tracker follows, as arrays: where they are, where they will be.

Lengths in the motion model are in body scales, the square root of the area of a person's box: about
a metre for somebody who stands, whatever the distance. A track moves as a whole, with the velocity
of a Kalman filter; its keypoints and its box are carried along as they were seen last.

The velocity is that of an integrated Ornstein-Uhlenbeck process: constant over short times, and
forgotten over long ones, so that somebody lost from sight is expected near where they were last
seen and not a street further. Its transition and noise are exact for any time step.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

SPEED = 1.2  # standard deviation of a velocity nothing is known of, body scales a second
PERSISTENCE = 1.0  # seconds for which a velocity is kept
MEASUREMENT = 0.04  # standard deviation of a confident position, body scales
_LEARNING = 0.15  # of the agility, an image
_MOST_AGILITY = 16.0
_SCALE_SECONDS = 0.2  # over which the body scale is smoothed
_SCORE_SECONDS = 1.0  # over which a keypoint that is no longer seen loses its score


@dataclass(frozen=True)
class Detections:
    """People of one image as the tracker takes them, all finite, float64.

    Attributes:
        boxes: (N, 4) left, top, right, bottom, in pixels.
        scores: (N,).
        points: (N, K, 2) in pixels.
        point_scores: (N, K), 0 where a keypoint cannot be used.
        scales: (N,) square root of the area of the box, at least 1 pixel.
    """

    boxes: np.ndarray
    scores: np.ndarray
    points: np.ndarray
    point_scores: np.ndarray
    scales: np.ndarray

    @classmethod
    def from_arrays(
        cls, boxes: np.ndarray, scores: np.ndarray, keypoints: np.ndarray
    ) -> Detections:
        """Take over what a detector gave; what is not finite or absurdly far off loses its say."""
        boxes = np.clip(np.nan_to_num(boxes.astype(np.float64)), -_FAR, _FAR)
        points = keypoints[..., :2].astype(np.float64)
        usable = np.all(np.abs(points) < _FAR, axis=-1)  # False for NaN, too
        point_scores = np.where(usable, np.nan_to_num(keypoints[..., 2].astype(np.float64)), 0)
        size = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
        return cls(
            boxes,
            np.nan_to_num(scores.astype(np.float64)),
            np.where(usable[..., None], points, 0),
            np.clip(point_scores, 0, 1),
            np.sqrt(np.maximum(size.prod(axis=1), 1)),
        )

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, rows: np.ndarray) -> Detections:
        """Those of a mask or of indices."""
        return Detections(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


_FAR = 1e6  # pixels


@dataclass
class Tracks:
    """M tracks; every attribute is an array of M rows.

    Attributes:
        ids: (M,) int64, -1 while tentative.
        hits: (M,) int64, images in which the person was seen.
        age: (M,) seconds since the person was first seen.
        unseen: (M,) seconds since the person was last seen, 0 if in the last image.
        position, velocity: (M, 2) pixels and pixels a second, of a point of the body.
        covariance: (M, 3) of position, position with velocity, velocity, the same for both axes.
        agility: (M,) by which the velocity is less steady than that of most people: grows for who
            jumps or dances, so that steady people can be told apart more sharply.
        scale: (M,) body scale in pixels.
        box: (M, 4) left, top, right, bottom relative to the position.
        points: (M, K, 2) keypoints relative to the position.
        point_scores: (M, K).
    """

    ids: np.ndarray
    hits: np.ndarray
    age: np.ndarray
    unseen: np.ndarray
    position: np.ndarray
    velocity: np.ndarray
    covariance: np.ndarray
    agility: np.ndarray
    scale: np.ndarray
    box: np.ndarray
    points: np.ndarray
    point_scores: np.ndarray

    @classmethod
    def starting(cls, people: Detections) -> Tracks:
        """A tentative track for each person."""
        count = len(people)
        position = (people.boxes[:, :2] + people.boxes[:, 2:]) / 2
        variance = people.scales**2
        return cls(
            ids=np.full(count, -1, np.int64),
            hits=np.ones(count, np.int64),
            age=np.zeros(count),
            unseen=np.zeros(count),
            position=position,
            velocity=np.zeros((count, 2)),
            covariance=np.stack(
                [MEASUREMENT**2 * variance, np.zeros(count), SPEED**2 * variance], axis=1
            ),
            agility=np.ones(count),
            scale=people.scales.copy(),
            box=people.boxes - np.tile(position, 2),
            points=people.points - position[:, None],
            point_scores=people.point_scores.copy(),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, rows: np.ndarray) -> Tracks:
        """Those of a mask or of indices."""
        return Tracks(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def joined(self, others: Tracks) -> Tracks:
        """These and then the others."""
        return Tracks(
            **{
                f.name: np.concatenate([getattr(self, f.name), getattr(others, f.name)])
                for f in fields(self)
            }
        )

    def predict(self, seconds: float) -> None:
        """Move all tracks on in time."""
        self.age += seconds
        self.unseen += seconds
        if seconds == 0:
            return
        kept = float(np.exp(-seconds / PERSISTENCE))
        reach = PERSISTENCE * (1 - kept)  # seconds that the velocity carries
        self.position += reach * self.velocity
        self.velocity *= kept
        power = self.agility * (SPEED * self.scale) ** 2
        both, speed = self.covariance[:, 1].copy(), self.covariance[:, 2].copy()
        variance = seconds - 2 * reach + PERSISTENCE * (1 - kept**2) / 2
        self.covariance[:, 0] += 2 * reach * both + reach**2 * speed
        self.covariance[:, 0] += 2 * PERSISTENCE * power * max(variance, 0)
        self.covariance[:, 1] = (
            kept * (both + reach * speed) + power * (1 - kept) ** 2 * PERSISTENCE
        )
        self.covariance[:, 2] = kept**2 * speed + power * (1 - kept**2)

    def correct(
        self, rows: np.ndarray, people: Detections, moved: np.ndarray, trust: np.ndarray
    ) -> None:
        """Continue tracks with the people of an image, one each.

        Args:
            rows: (N,) the tracks.
            people: N people.
            moved: (N, 2) pixels from where the track expects each person to where they are.
            trust: (N,) 0 to 1, how well that is known.
        """
        scale = self.scale[rows]
        noise = (MEASUREMENT * scale) ** 2 / np.maximum(trust, 0.05)
        place, both, speed = self.covariance[rows].T
        surprise = (moved**2).sum(axis=1) / (2 * (place + noise))  # 1 on average, if all is right
        agility = self.agility[rows] * np.exp(_LEARNING * (np.minimum(surprise, 20) - 1))
        self.agility[rows] = np.clip(agility, 1, _MOST_AGILITY)
        gain, speed_gain = place / (place + noise), both / (place + noise)
        position = self.position[rows] + gain[:, None] * moved
        self.position[rows] = position
        self.velocity[rows] += speed_gain[:, None] * moved
        self.covariance[rows] = np.stack(
            [(1 - gain) * place, (1 - gain) * both, speed - speed_gain * both], axis=1
        )
        new = 1 - np.exp(-np.maximum(self.unseen[rows], 1e-3) / _SCALE_SECONDS)
        self.scale[rows] = scale ** (1 - new) * people.scales**new
        self.box[rows] = people.boxes - np.tile(position, 2)
        self._remember(rows, people, position)
        self.hits[rows] += 1
        self.unseen[rows] = 0

    def _remember(self, rows: np.ndarray, people: Detections, position: np.ndarray) -> None:
        """Take over the keypoints that are seen; keep the others where they were on the body."""
        fading = np.exp(-self.unseen[rows] / _SCORE_SECONDS)[:, None]
        known = self.point_scores[rows] * fading
        share = people.point_scores / np.maximum(people.point_scores + 0.3 * known, 1e-9)
        points = people.points - position[:, None]
        self.points[rows] += share[..., None] * (points - self.points[rows])
        self.point_scores[rows] = np.maximum(people.point_scores, known)
