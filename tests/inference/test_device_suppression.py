"""Selection and suppression in static shapes decide as the host's code does, whatever the boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pose_node.inference import device_suppression
from pose_node.inference.device_suppression import (
    MAX_STEPS,
    Candidates,
    Kept,
    first_places,
    keep_best,
    select_candidates,
    suppress,
)
from pose_node.inference.nms import non_maximum_suppression

MAX_KEPT = 50


def make_rows(seed: int, count: int, num_classes: int, *, grid: bool) -> np.ndarray:
    """Rows (count, 4 + classes + 3): on a grid, with equal, touching, empty and inverted boxes."""
    random = np.random.default_rng(seed)
    corner = random.integers(0, 6, (count, 2)) * 1.0 if grid else random.uniform(0, 60, (count, 2))
    low, high = (-1, 4) if grid else (0, 60)
    size = random.integers(low, high, (count, 2)) if grid else random.uniform(0, 60, (count, 2))
    scores = random.choice(np.linspace(0, 1, 12), (count, num_classes))  # many are equal
    points = random.uniform(-10, 70, (count, 3))
    return np.hstack([corner, corner + size, scores, points]).astype(np.float32)


def on_host(
    rows: np.ndarray, num_classes: int, *, score: float, iou: float, classes: tuple[int, ...]
) -> np.ndarray:
    """Numbers of the rows that stay, as the engine finds them without a GPU."""
    best = rows[:, 4 : 4 + num_classes]
    above = best.max(1) > np.float32(score)
    wanted = np.isin(best.argmax(1), classes)
    (there,) = np.nonzero(above & wanted & (np.abs(rows) < 1e6).all(1))
    chosen = rows[there]
    kept = non_maximum_suppression(
        chosen[:, :4],
        chosen[:, 4 : 4 + num_classes].max(1, initial=0),
        chosen[:, 4 : 4 + num_classes].argmax(1),
        iou_threshold=iou,
        max_kept=MAX_KEPT,
    )
    return there[kept]


def select(
    rows: np.ndarray,
    num_classes: int,
    *,
    score: float = 0.0,
    classes: tuple[int, ...] | None = None,
    limit: int = 100,
) -> Candidates:
    wanted = [classes is None or number in classes for number in range(num_classes)]
    return select_candidates(
        torch.from_numpy(rows),
        num_classes=num_classes,
        limit=limit,
        score_threshold=torch.tensor(score),
        wanted=torch.tensor(wanted),
    )


def numbers_of(candidates: Candidates, kept: Kept, image: int = 0) -> list[int]:
    """Rows that stay of one image."""
    places = kept.places[image, : int(kept.count[image])]
    return candidates.rows[image, places].tolist()


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 60),
    grid=st.booleans(),
    score=st.sampled_from([0.0, 0.25, 0.5]),
    iou=st.sampled_from([0.0, 0.3, 1 / 3, 0.5, 0.65, 1.0]),
    num_classes=st.integers(1, 4),
)
@settings(max_examples=200)
def test_decides_as_the_host_does(
    seed: int, count: int, grid: bool, score: float, iou: float, num_classes: int
) -> None:
    rows = np.stack([make_rows(seed + i, count, num_classes, grid=grid) for i in range(2)])
    classes = tuple(range(max(num_classes - 1, 1)))
    candidates = select(rows, num_classes, score=score, classes=classes)
    kept = suppress(candidates, iou_threshold=torch.tensor(iou), max_kept=MAX_KEPT)
    for image in range(2):
        expected = on_host(rows[image], num_classes, score=score, iou=iou, classes=classes)
        if kept.settled[image]:
            assert numbers_of(candidates, kept, image) == expected.tolist()
        else:
            assert count > MAX_STEPS


def chain(length: int) -> np.ndarray:
    """Boxes of which each overlaps the next, best first: every second one stays."""
    left = np.arange(length, dtype=np.float32)
    scores = np.linspace(1, 0.5, length, dtype=np.float32)
    zeros, ones = np.zeros_like(left), np.ones_like(left)
    return np.stack((left, zeros, left + 1.5, ones, scores, left), 1)


def test_a_chain_is_settled_step_by_step_or_reported() -> None:
    for length in (MAX_STEPS - 1, MAX_STEPS, 3 * MAX_STEPS):
        candidates = select(chain(length)[None], 1)
        kept = suppress(candidates, iou_threshold=torch.tensor(0.1), max_kept=MAX_KEPT)
        right = numbers_of(candidates, kept) == list(range(0, length, 2))
        assert bool(kept.settled) == right == (length <= MAX_STEPS)


def test_enough_steps_settle_any_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_suppression, "MAX_STEPS", 41)
    candidates = select(chain(40)[None], 1)
    kept = suppress(candidates, iou_threshold=torch.tensor(0.1), max_kept=MAX_KEPT)
    assert bool(kept.settled)
    assert numbers_of(candidates, kept) == list(range(0, 40, 2))


def test_candidates_are_the_best_and_of_equals_the_first() -> None:
    scores = [0.5, 0.9, 0.5, 0.2, 0.9, 0.5, 0.1]
    rows = np.zeros((1, 7, 5), np.float32)
    rows[0, :, 4] = scores
    candidates = select(rows, 1, score=0.1, limit=4)
    assert candidates.rows.tolist() == [[1, 4, 0, 2]]
    assert candidates.count.tolist() == [4]
    assert candidates.found.tolist() == [6]
    np.testing.assert_array_equal(candidates.scores[0], np.float32([0.9, 0.9, 0.5, 0.5]))


def test_nobody_is_an_answer() -> None:
    candidates = select(np.zeros((2, 9, 8), np.float32), 1)
    kept = suppress(candidates, iou_threshold=torch.tensor(0.5), max_kept=3)
    assert candidates.found.tolist() == kept.count.tolist() == [0, 0]
    assert kept.settled.all()
    assert keep_best(candidates, 3).count.tolist() == [0, 0]


@pytest.mark.parametrize("damage", [np.nan, np.inf, -np.inf, 1e7])
@pytest.mark.parametrize("column", [0, 4, 6])
def test_damaged_rows_are_no_candidates(damage: float, column: int) -> None:
    rows = make_rows(1, 5, 1, grid=False)[None]
    rows[0, :, 4] = 0.9
    rows[0, 2, column] = damage
    assert select(rows, 1).rows[0, :4].tolist() == [0, 1, 3, 4]


def test_a_score_at_the_threshold_is_below() -> None:
    rows = np.zeros((1, 3, 5), np.float32)
    rows[0, :, 4] = np.float32(0.3), np.nextafter(np.float32(0.3), np.float32(1)), 0.2
    assert select(rows, 1, score=0.3).found.tolist() == [1]


def test_networks_that_propose_everybody_once_keep_the_best() -> None:
    candidates = select(make_rows(3, 30, 1, grid=False)[None], 1)
    kept = keep_best(candidates, 4)
    assert kept.places.tolist() == [[0, 1, 2, 3]]
    assert kept.count.tolist() == [4]


@given(st.lists(st.booleans(), min_size=1, max_size=20), st.integers(1, 22))
def test_first_places(stays: list[bool], limit: int) -> None:
    places, count = first_places(torch.tensor([stays]), limit)
    expected = [index for index, stay in enumerate(stays) if stay][:limit]
    assert places.shape == (1, limit)
    assert places[0, : int(count)].tolist() == expected


def crowd(device: str) -> Tensor:
    rows = [make_rows(seed, 900, 3, grid=seed % 2 == 0) for seed in range(4)]
    return torch.from_numpy(np.stack(rows)).to(device)


@pytest.mark.gpu
def test_the_gpu_decides_as_the_host_does() -> None:
    if not torch.cuda.is_available():
        pytest.skip("GPU missing: torch finds no CUDA device")
    from pose_node.inference.device_kernels import choose_kernels

    kernels, why_not = choose_kernels(torch.device("cuda"))
    assert kernels is not None, why_not
    rows = crowd("cuda")
    for score, iou in ((0.5, 0.65), (0.8, 0.3), (0.0, 0.9)):
        candidates = select_candidates(
            rows,
            num_classes=3,
            limit=1024,
            score_threshold=torch.tensor(score, device="cuda"),
            wanted=torch.ones(3, dtype=torch.bool, device="cuda"),
        )
        for chosen in (None, kernels):
            kept = suppress(
                candidates,
                iou_threshold=torch.tensor(iou, device="cuda"),
                max_kept=MAX_KEPT,
                kernels=chosen,
            )
            for image, host in enumerate(rows.cpu().numpy()):
                expected = on_host(host, 3, score=score, iou=iou, classes=(0, 1, 2)).tolist()
                if chosen is not None or kept.settled[image]:
                    assert numbers_of(candidates, kept, image) == expected
