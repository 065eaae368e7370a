"""Rates and percentiles of the last seconds."""

from __future__ import annotations

import math

import pytest

from pose_node.ros.window import Window
from tests.ros.conftest import Clock


def test_rate_of_a_steady_stream(clock: Clock) -> None:
    window = Window(clock)
    for _ in range(600):
        clock.seconds += 1 / 30
        window.add(1)
    assert window.rate() == pytest.approx(30, rel=0.01)


def test_rate_soon_after_the_start_is_not_diluted(clock: Clock) -> None:
    window = Window(clock)
    for _ in range(30):
        clock.seconds += 1 / 30
        window.add(1)
    assert window.rate() == pytest.approx(30)


def test_rate_is_finite_at_the_first_instant(clock: Clock) -> None:
    window = Window(clock)
    assert window.rate() == 0
    window.add(1)
    assert math.isfinite(window.rate())


def test_old_values_are_forgotten(clock: Clock) -> None:
    window = Window(clock)
    window.add(1000)
    clock.seconds += 8
    window.add(2)
    assert window.percentiles(50) == [501]
    clock.seconds += 3
    assert window.percentiles(50, 95) == [2, 2]
    assert window.rate() == 0.1
    clock.seconds += 11
    assert window.percentiles(50) is None
    assert window.rate() == 0


def test_percentiles_leave_out_what_is_unknown(clock: Clock) -> None:
    window = Window(clock)
    window.add(math.nan)
    assert window.percentiles(50, 95) is None
    for value in range(101):
        window.add(value)
    assert window.percentiles(50, 95) == [50, 95]


def test_memory_is_bounded(clock: Clock) -> None:
    window = Window(clock)
    for value in range(20_000):
        window.add(value)
    assert window.percentiles(0) == [10_000]


def test_counts_and_sums(clock: Clock) -> None:
    window = Window(clock)
    assert not window.settled()
    window.add(3)
    window.add(5)
    clock.seconds += 4
    assert (window.count(), window.total()) == (2, 2.0)
    clock.seconds += 6
    assert window.settled()
    assert window.total() == 0.8
    clock.seconds += 1
    assert (window.count(), window.total()) == (0, 0.0)
