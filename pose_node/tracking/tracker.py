"""`PoseTracker`: gives the people in the images of one camera ids that last."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from pose_node.poses import Poses, Skeleton
from pose_node.tracking.settings import TrackerSettings
from pose_node.tracking.similarity import Comparison, assign, compare, doubles
from pose_node.tracking.tracks import Detections, Tracks

REORDER_SECONDS = 0.5
"""An image older than the last by no more than this is taken as of the same time."""

WEAK_SECONDS = 1.0
"""Weak people continue a track only if it was seen no longer ago than this."""

ADOPTION_SECONDS = 0.6
"""A new track may be the continuation of one that got lost no longer than this before it began."""

MAX_ID = 2**31 - 1
"""Greatest id, that of the message's field."""


class TrackState(Enum):
    """What is known of a person that is followed."""

    TENTATIVE = "tentative"
    CONFIRMED = "confirmed"
    LOST = "lost"


@dataclass(frozen=True)
class Track:
    """One person that is followed.

    Attributes:
        track_id: -1 while tentative.
        state: tentative (new), confirmed (in the last image) or lost (not in it).
        age_s: seconds since they were first seen.
        unseen_s: seconds since they were last seen.
        box_xyxy: left, top, right, bottom, in pixels, where they are or are expected.
    """

    track_id: int
    state: TrackState
    age_s: float
    unseen_s: float
    box_xyxy: tuple[float, float, float, float]


class PoseTracker:
    """Gives the people in the images of one camera ids; one tracker for each camera.

    Confident people are matched first with the tracks, then the weak ones with the tracks that are
    left (two stages, as in ByteTrack, Zhang et al. 2022), each by the Hungarian method on keypoint
    similarity and box overlap, against where a Kalman filter expects the people at the time of the
    image. Everything goes by the stamps, so rates of 2 to 60 Hz, dropped images and images without
    people need no other settings.

    Args:
        skeleton: of the poses; its sigmas weigh the keypoints.
        settings: may be replaced between calls (`tracker.settings = ...`).
        first_id: of the first track; each next one gets one more, and none is ever used again.

    Attributes:
        settings: as given.
    """

    def __init__(
        self, skeleton: Skeleton, settings: TrackerSettings | None = None, *, first_id: int = 1
    ) -> None:
        if not 0 <= first_id <= MAX_ID:
            raise ValueError(f"first_id must be 0 to {MAX_ID}, got {first_id}")
        self.settings = settings or TrackerSettings()
        self._sigmas = np.asarray(skeleton.sigmas, np.float64)
        self._next_id = first_id
        self._stamp_ns: int | None = None
        self._tracks = self._nobody()

    @property
    def tracks(self) -> list[Track]:
        """Everybody who is followed, also those not in the last image."""
        tracks = self._tracks
        boxes = tracks.box + np.tile(tracks.position, 2)
        return [
            Track(
                int(track_id),
                _state(int(track_id), float(unseen)),
                float(age),
                float(unseen),
                (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
            )
            for track_id, age, unseen, box in zip(
                tracks.ids, tracks.age, tracks.unseen, boxes, strict=True
            )
        ]

    @property
    def next_id(self) -> int:
        """The id of the next track."""
        return self._next_id

    def reset(self) -> None:
        """Forget everybody. Ids go on where they were."""
        self._tracks = self._nobody()
        self._stamp_ns = None

    def update(self, poses: Poses, stamp_ns: int) -> Poses:
        """Take the people of the next image.

        Call it for every image, also for those without people.

        Args:
            poses: people scored above `settings.low_score`; their ids are not looked at.
            stamp_ns: capture time of the image in nanoseconds.

        Returns:
            The same people in the same order with ids; -1 for people whose track is still
            tentative, who are too weak to start one, or who are the double of another.

        Raises:
            ValueError: the poses have another number of keypoints than the skeleton.
        """
        if poses.num_keypoints != len(self._sigmas):
            raise ValueError(
                f"poses must have {len(self._sigmas)} keypoints, as the skeleton of the tracker, "
                f"got {poses.num_keypoints}"
            )
        self._advance(stamp_ns)
        people = Detections.from_arrays(poses.boxes_xyxy, poses.scores, poses.keypoints)
        compared = compare(self._tracks, people, self._sigmas)
        rows = self._match(people, compared)  # of each person, -1 for none
        columns = np.flatnonzero(rows >= 0)
        pairs = rows[columns], columns
        self._tracks.correct(
            pairs[0], people.select(columns), compared.moved[pairs], compared.trust[pairs]
        )
        self._adopt(rows, compared)
        rows = self._start(people, rows)
        self._confirm()
        ids = np.where(rows >= 0, np.append(self._tracks.ids, -1)[rows], -1)
        self._give_up()
        return replace(poses, ids=ids)

    def _advance(self, stamp_ns: int) -> None:
        """Bring the tracks to the time of the image, or end them all at a jump of the clock."""
        seconds = 0.0 if self._stamp_ns is None else (stamp_ns - self._stamp_ns) / 1e9
        if not -REORDER_SECONDS <= seconds <= self.settings.restart_seconds:
            self.reset()
        elif seconds >= 0:
            lost = self._tracks.unseen > 0
            self._tracks.predict(seconds)
            given_up = lost & (self._tracks.unseen > self.settings.lost_seconds)
            self._tracks = self._tracks.select(~given_up)
        else:
            return
        self._stamp_ns = stamp_ns

    def _match(self, people: Detections, compared: Comparison) -> np.ndarray:
        """(N,) the row of the track that each person continues, -1 for none."""
        settings, tracks = self.settings, self._tracks
        rows = np.full(len(people), -1, np.intp)
        strong = people.scores > settings.high_score
        confident = np.flatnonzero(strong)
        pairs = assign(
            compared.similar[:, confident], compared.likely[:, confident], settings.match_threshold
        )
        rows[confident[pairs[1]]] = pairs[0]

        free = (tracks.ids >= 0) & (tracks.unseen <= WEAK_SECONDS)
        free[pairs[0]] = False
        weak = ~strong & (people.scores > settings.low_score)
        weak &= ~doubles(people, people.select(rows >= 0), self._sigmas).any(axis=1)
        grid = np.ix_(free, weak)
        pairs = assign(compared.similar[grid], compared.likely[grid], settings.weak_match_threshold)
        rows[np.flatnonzero(weak)[pairs[1]]] = np.flatnonzero(free)[pairs[0]]
        return rows

    def _start(self, people: Detections, rows: np.ndarray) -> np.ndarray:
        """Start tracks for confident people that continue none; returns the rows of all."""
        new = (rows < 0) & (people.scores > self.settings.new_track_score)
        # Of two new people who are the same, the better one starts a track.
        rank = np.where(rows >= 0, np.inf, np.where(new, people.scores, -np.inf))
        better = rank[None, :] > rank[:, None]
        new &= ~(doubles(people, people, self._sigmas) & better).any(axis=1)
        rows = rows.copy()
        rows[new] = len(self._tracks) + np.arange(np.count_nonzero(new))
        started = Tracks.starting(people.select(new))
        self._tracks = self._tracks.joined(started)
        return rows

    def _adopt(self, rows: np.ndarray, compared: Comparison) -> None:
        """Give back their ids to people who made so sudden a move that a new track began.

        That is so if, when it is to be confirmed, a track that got lost just before it began could
        be the same person.

        Args:
            rows: (N,) the track of each person, -1 for none.
            compared: the tracks with the people.
        """
        tracks, ready = self._tracks, self._ready()
        for row in np.flatnonzero(ready):
            column = np.flatnonzero(rows == row)[0]
            before = tracks.unseen - tracks.age[row]
            could = (tracks.ids >= 0) & (before > 0) & (before <= ADOPTION_SECONDS)
            could &= compared.similar[:, column] >= self.settings.match_threshold
            if could.any():
                lost = np.where(could, compared.similar[:, column], -1).argmax()
                tracks.ids[row], tracks.ids[lost] = tracks.ids[lost], -1
                tracks.unseen[lost] = np.inf  # given up with this image

    def _confirm(self) -> None:
        """Give ids to the tracks that have been seen often and long enough."""
        for row in np.flatnonzero(self._ready()):
            if self._next_id <= MAX_ID:
                self._tracks.ids[row] = self._next_id
                self._next_id += 1

    def _ready(self) -> np.ndarray:
        """(M,) who is tentative, and need not be any more."""
        tracks, settings = self._tracks, self.settings
        long_enough = tracks.age >= settings.confirm_seconds - 1e-6  # stamps are rounded
        often = tracks.hits >= settings.confirm_hits
        return np.asarray((tracks.ids < 0) & (tracks.unseen == 0) & often & long_enough)

    def _give_up(self) -> None:
        """Drop tentative tracks that were not seen for long."""
        tracks = self._tracks
        self._tracks = tracks.select(
            (tracks.ids >= 0) | (tracks.unseen <= self.settings.tentative_seconds)
        )

    def _nobody(self) -> Tracks:
        count = len(self._sigmas)
        return Tracks.starting(
            Detections.from_arrays(np.empty((0, 4)), np.empty(0), np.empty((0, count, 3)))
        )


def publishable(poses: Poses, score_threshold: float) -> Poses:
    """The people that are confident or continue a track.

    The rule between tracker and publishers: the engine is asked for people down to the tracker's
    `low_score`; of those at or below the user's own threshold only they go out who continue a
    track, so that a person does not blink whose score wavers around the threshold.

    Args:
        poses: as `PoseTracker.update` returned them.
        score_threshold: people scored above always go out.
    """
    wanted = (poses.scores > score_threshold) | (poses.ids >= 0)
    if wanted.all():
        return poses
    return Poses(
        poses.boxes_xyxy[wanted], poses.scores[wanted], poses.keypoints[wanted], poses.ids[wanted]
    )


def _state(track_id: int, unseen: float) -> TrackState:
    if track_id < 0:
        return TrackState.TENTATIVE
    return TrackState.LOST if unseen > 0 else TrackState.CONFIRMED
