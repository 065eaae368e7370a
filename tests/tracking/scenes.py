"""Synthetic scenes with known identities: people who walk, jump, pass behind each other.

A flat world seen by a level camera: who stands nearer is larger, lower in the image and hides those
behind. What a detector would say of it is simulated: noise, missed people, weak scores and shifted
keypoints of those half hidden, boxes that shrink to what is seen, and now and then a false person.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pose_node import Poses

WIDTH, HEIGHT = 1920.0, 1080.0
_HORIZON = 200.0
_FOCAL, _CAMERA_HEIGHT = 1200.0, 3.0

# Metres right and up of each COCO keypoint, of somebody of 1.7 m who faces the camera.
_BODY = np.array(
    [
        *((0, 1.58), (0.03, 1.61), (-0.03, 1.61), (0.07, 1.6), (-0.07, 1.6)),
        *((0.18, 1.4), (-0.18, 1.4), (0.24, 1.13), (-0.24, 1.13), (0.25, 0.88), (-0.25, 0.88)),
        *((0.1, 0.9), (-0.1, 0.9), (0.1, 0.48), (-0.1, 0.48), (0.1, 0.06), (-0.1, 0.06)),
    ]
)
# How far each swings when its owner walks, left and right against each other.
_SWING = np.array([0, 0, 0, 0, 0, 0, 0, 1, -1, 2, -2, 0, 0, -1, 1, -2.2, 2.2]) * 0.13

Path = Callable[[float], tuple[float, float, float]]
"""Seconds -> metres right, metres away, metres above the floor."""


@dataclass(frozen=True)
class Person:
    """Somebody in the scene from `start` to `end`, in seconds."""

    path: Path
    start: float = 0.0
    end: float = np.inf
    height: float = 1.0
    phase: float = 0.0


@dataclass(frozen=True)
class Observed:
    """One image: what the detector gives, and which person each row is, -1 for none."""

    stamp_ns: int
    poses: Poses
    people: np.ndarray


def walk(x: float, away: float, speed: float, drift: float = 0.0, start: float = 0.0) -> Path:
    """Straight on, from a place at a time."""
    return lambda t: (x + speed * (t - start), away + drift * (t - start), 0.0)


def wander(random: np.random.Generator, away: float) -> Path:
    """Back and forth, never out of view."""
    reach = 0.6 * away
    turns, phases = random.uniform(0.1, 0.35, 2), random.uniform(0, 6.28, 3)
    amplitude, centre = random.uniform(0.5, 1.5), random.uniform(-reach, reach)
    return lambda t: (
        centre
        + amplitude * np.sin(turns[0] * t * 2 + phases[0]) * np.cos(turns[1] * t + phases[1]),
        away + 0.3 * np.sin(turns[1] * t + phases[2]),
        0.0,
    )


def jump(x: float, away: float, period: float = 0.7) -> Path:
    """Up and down on the spot."""
    return lambda t: (x, away, 4.9 * ((t % period) * (period - t % period)))


def observe(
    people: list[Person],
    seconds: float,
    rate: float,
    *,
    missed: float = 0.1,
    noise: float = 0.012,
    false_people: float = 0.0,
    dropped: float = 0.0,
    seed: int = 0,
) -> list[Observed]:
    """What a detector says of a scene.

    Args:
        people: in the scene.
        seconds: length.
        rate: images a second.
        missed: share of visible people who are not found.
        noise: of keypoints and box edges, as a share of the person's height.
        false_people: mean number of people an image who are not there.
        dropped: share of images that never come.
        seed: of everything random.
    """
    random = np.random.default_rng(seed)
    images = []
    for index in range(int(seconds * rate)):
        time = index / rate
        if random.random() < dropped:
            continue
        rows = _detect(people, time, missed, noise, random)
        rows += [_false_person(random) for _ in range(random.poisson(false_people))]
        rows.sort(key=lambda row: -row[1])
        poses = Poses.empty(17)
        if rows:
            poses = Poses.from_arrays(*(np.stack([row[i] for row in rows]) for i in range(3)))
        identities = np.array([row[3] for row in rows], np.int64)
        images.append(Observed(round(1e9 * (100 + time)), poses, identities))
    return images


_Row = tuple[np.ndarray, float, np.ndarray, int]


def _detect(
    people: list[Person], time: float, missed: float, noise: float, random: np.random.Generator
) -> list[_Row]:
    present = [i for i, person in enumerate(people) if person.start <= time < person.end]
    present.sort(key=lambda i: people[i].path(time)[1])  # the nearest first
    rows: list[_Row] = []
    in_front: list[np.ndarray] = []
    for identity in present:
        points = _project(people[identity], time)
        low, high = points.min(axis=0), points.max(axis=0)
        height = high[1] - low[1]
        hidden = np.zeros(17, bool)
        for box in in_front:
            hidden |= ((points > box[:2]) & (points < box[2:])).all(axis=1)
        margin = np.array([0.06, 0.06]) * height
        in_front.append(np.concatenate([low - margin * 0.3, high + margin * 0.3]))
        outside = ((points < 0) | (points > (WIDTH, HEIGHT))).any(axis=1)
        hidden |= outside
        seen = 1 - hidden.mean()
        if seen < 0.25 or random.random() < missed:
            continue
        spread = np.where(hidden, 5, 1)[:, None] * noise * height
        found = points + random.normal(0, 1, (17, 2)) * spread
        visible = points[~hidden] if seen < 0.8 else points
        box = np.concatenate([visible.min(axis=0) - margin, visible.max(axis=0) + margin])
        box = box + random.normal(0, noise * height, 4)
        box = np.clip(box, 0, [WIDTH, HEIGHT] * 2)
        point_scores = np.clip(
            np.where(hidden, random.uniform(0.05, 0.5, 17), random.normal(0.9, 0.08, 17)), 0, 1
        )
        score = float(np.clip(random.normal(0.9 if seen > 0.8 else seen * 0.8, 0.05), 0.05, 0.99))
        rows.append((box, score, np.column_stack([found, point_scores]), identity))
    return rows


def _project(person: Person, time: float) -> np.ndarray:
    """(17, 2) pixels."""
    right, away, up = person.path(time)
    body = _BODY * person.height
    swing = _SWING * np.sin(2 * np.pi * 0.9 * time + person.phase)
    x = right + body[:, 0] + swing * 0.7
    y = up + body[:, 1]
    return np.column_stack(
        [WIDTH / 2 + _FOCAL * x / away, _HORIZON + _FOCAL * (_CAMERA_HEIGHT - y) / away]
    )


def _false_person(random: np.random.Generator) -> _Row:
    centre = random.uniform(0, [WIDTH, HEIGHT])
    size = random.uniform(40, 250)
    points = centre + size * random.uniform(-0.5, 0.5, (17, 2))
    box = np.concatenate([centre - size / 2, centre + size / 2])
    scores = random.uniform(0, 0.6, (17, 1))
    return box, float(random.uniform(0.1, 0.55)), np.hstack([points, scores]), -1


def crossing(seed: int = 0, pairs: int = 3) -> list[Person]:
    """Pairs, one after the other, of two people who pass close in front of each other.

    A pair takes 15 seconds; all come from outside the view and leave it.
    """
    random = np.random.default_rng(seed)
    people = []
    for pair in range(pairs):
        start, nearest = 15.0 * pair, random.uniform(3.5, 6)
        gap = random.uniform(0.4, 1.0)
        for sign, away in ((1, nearest), (-1, nearest + gap)):
            speed = random.uniform(0.9, 1.5)
            meets = start + 5 + random.uniform(-0.3, 0.3)
            path = walk(0, away, sign * speed, start=meets)
            half = (WIDTH / 2 / _FOCAL * away + 0.5) / speed
            height, phase = random.uniform(0.9, 1.1), random.uniform(0, 6)
            people.append(Person(path, meets - half, meets + half, height, phase))
    return people


def crowd(count: int = 30, seed: int = 0) -> list[Person]:
    """People who wander at different distances."""
    random = np.random.default_rng(seed)
    return [
        Person(
            wander(random, random.uniform(6, 20)),
            0.0,
            np.inf,
            random.uniform(0.85, 1.1),
            random.uniform(0, 6),
        )
        for _ in range(count)
    ]
