"""Counters, rates and times of the last seconds."""

from __future__ import annotations

import math
import threading

import pytest

from pose_node.ros.statistics import (
    CameraStatistics,
    DepthReport,
    DepthStatistics,
    StageStatistics,
    Window,
)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


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


def test_camera_without_images(clock: Clock) -> None:
    report = CameraStatistics(clock).report()
    assert (report.received, report.published, report.replaced, report.lost) == (0, 0, 0, 0)
    assert report.silent
    assert report.refused == {}
    assert report.last_error == ""
    assert report.age is report.arrival is report.wait is None


def test_camera_counts_and_times(clock: Clock) -> None:
    camera = CameraStatistics(clock)
    for arrival in (10.0, 20.0, 30.0):
        camera.received(arrival)
    camera.replaced()
    camera.lost(4)
    camera.refused("zero area", "0x0 has no area")
    camera.refused("zero area", "0x7 has no area")
    camera.refused("absurd size", "too large")
    camera.published(wait_ms=5.0, age_ms=50.0)
    clock.seconds += 2
    report = camera.report()
    assert (report.received, report.published, report.replaced, report.lost) == (3, 1, 1, 4)
    assert report.refused == {"zero area": 2, "absurd size": 1}
    assert report.last_error == "too large"
    assert (report.rate_in, report.rate_out, report.rate_refused) == (1.5, 0.5, 1.5)
    assert report.arrival == pytest.approx([20, 29])
    assert report.wait == [5, 5]
    assert report.age == [50, 50]
    assert not report.silent


def test_a_camera_that_stopped_is_silent_and_keeps_its_counts(clock: Clock) -> None:
    camera = CameraStatistics(clock)
    camera.received(1.0)
    camera.refused("zero area", "0x0 has no area")
    clock.seconds += 11
    report = camera.report()
    assert report.silent
    assert report.received == 1
    assert report.refused == {"zero area": 1}
    assert report.rate_refused == 0


def test_images_without_stamp_are_counted_but_have_no_age(clock: Clock) -> None:
    camera = CameraStatistics(clock)
    camera.received(math.nan)
    camera.published(wait_ms=1.0, age_ms=math.nan)
    clock.seconds += 1
    report = camera.report()
    assert (report.rate_in, report.rate_out) == (1, 1)
    assert report.age is report.arrival is None
    assert report.wait == [1, 1]


def test_depth_counts_and_rates(clock: Clock) -> None:
    depth = DepthStatistics(clock)
    for _ in range(4):
        depth.received()
    depth.matched()
    depth.refused("too short")
    depth.missed("nothing near")
    clock.seconds += 2
    assert depth.report() == DepthReport(
        received=4,
        matched=1,
        missed=1,
        refused=1,
        last_error="nothing near",
        rate_in=2.0,
        rate_missed=0.5,
    )
    clock.seconds += 10
    assert (depth.report().rate_in, depth.report().rate_missed, depth.report().received) == (
        0,
        0,
        4,
    )


def test_stages_in_milliseconds() -> None:
    stages = StageStatistics()
    assert stages.stages_ms() == {}
    stages.worked({"network": 0.040, "publish": 0.001})
    stages.worked({"network": 0.060, "publish": 0.001})
    assert stages.stages_ms() == {
        "network": pytest.approx([50, 59]),
        "publish": pytest.approx([1, 1]),
    }
    assert (stages.failing, stages.failures, stages.last_failure) == (False, 0, "")


def test_failing_until_the_next_success() -> None:
    stages = StageStatistics()
    stages.failed("out of memory")
    stages.failed("still out of memory")
    assert (stages.failing, stages.failures) == (True, 2)
    stages.worked({"network": 0.01})
    assert (stages.failing, stages.failures) == (False, 2)
    assert stages.last_failure == "still out of memory"


def test_no_count_is_lost_between_threads() -> None:
    camera = CameraStatistics()
    stages = StageStatistics()

    def count() -> None:
        for _ in range(500):
            camera.received(1.0)
            camera.refused("zero area", "")
            stages.failed("")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = camera.report()
    assert (report.received, report.refused, stages.failures) == (2000, {"zero area": 2000}, 2000)
