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
)
from tests.ros.conftest import Clock


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


def test_how_long_nothing_was_answered(clock: Clock) -> None:
    camera = CameraStatistics(clock)

    def waiting_after_an_image() -> float:
        camera.received(1.0)
        clock.seconds += 3
        camera.received(1.0)
        clock.seconds += 4
        return camera.report().waiting

    assert camera.report().waiting == 0
    assert waiting_after_an_image() == 7
    camera.published(wait_ms=1.0, age_ms=1.0)
    assert camera.report().waiting == 0
    assert waiting_after_an_image() == 7
    camera.refused("zero area", "0x0")
    assert camera.report().waiting == 0
    assert waiting_after_an_image() == 7
    camera.nothing_awaited()
    assert camera.report().waiting == 0


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
        last_refusal="too short",
        rate_in=2.0,
        rate_missed=0.5,
        rate_refused=0.5,
    )
    clock.seconds += 10
    assert (depth.report().rate_in, depth.report().rate_missed, depth.report().received) == (
        0,
        0,
        4,
    )


def test_stages_in_milliseconds() -> None:
    stages = StageStatistics()
    assert stages.report().stages_ms == {}
    stages.worked({"network": 0.040, "publish": 0.001})
    stages.worked({"network": 0.060, "publish": 0.001})
    assert stages.report().stages_ms == {
        "network": pytest.approx([50, 59]),
        "publish": pytest.approx([1, 1]),
    }
    report = stages.report()
    assert (report.failures, report.last_failure) == (0, "")


def test_failures_are_counted() -> None:
    stages = StageStatistics()
    stages.failed("out of memory")
    stages.failed("still out of memory")
    stages.worked({"network": 0.01})
    report = stages.report()
    assert (report.failures, report.last_failure) == (2, "still out of memory")


def test_a_camera_fails_until_its_next_success() -> None:
    camera = CameraStatistics()
    assert (camera.report().failure, camera.report().partial_failure) == ("", "")
    camera.failed("odd shape")
    assert camera.report().failure == "odd shape"
    camera.published(1.0, 1.0)
    camera.failed_in_part("no such field")
    assert (camera.report().failure, camera.report().partial_failure) == ("", "no such field")
    camera.published(1.0, 1.0)
    camera.complete()
    assert camera.report().partial_failure == ""
    camera.failed("odd shape")
    camera.failed_in_part("no such field")
    camera.nothing_awaited()
    assert (camera.report().failure, camera.report().partial_failure) == ("", "")


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
    assert (report.received, report.refused, stages.report().failures) == (
        2000,
        {"zero area": 2000},
        2000,
    )


def arrive(camera: CameraStatistics, clock: Clock, *stamps: float, seconds: float = 0.1) -> None:
    """Images with these stamps in seconds, so many seconds one after the other."""
    for stamp in stamps:
        clock.seconds += seconds
        camera.received(1.0, round(stamp * 1e9))


@pytest.mark.parametrize(
    ("pace", "pause", "silent"),
    [(0.03, 4.9, False), (0.03, 5.1, True), (10.0, 29.0, False), (10.0, 31.0, True)],
)
def test_silence_is_judged_by_the_pace(
    clock: Clock, pace: float, pause: float, silent: bool
) -> None:
    camera = CameraStatistics(clock)
    assert camera.report().silent
    arrive(camera, clock, 1, 1, 1, 1, seconds=pace)
    assert not camera.report().silent
    clock.seconds += pause
    assert camera.report().silent is silent
    arrive(camera, clock, 1)
    assert not camera.report().silent
    clock.seconds += pause  # an outage does not change the pace
    assert camera.report().silent is silent


@pytest.mark.parametrize(
    ("stamps", "jumps", "last"),
    [
        ((10.0, 10.1, 10.2), 0, 0.0),
        ((10.0, 10.0, 9.95), 0, 0.0),  # doubled, or out of order by a little
        ((10.0, 10.1, 3.1, 3.2), 1, -7.0),
        ((10.0, 10.1, 99.1, 99.2), 1, 89.0),
        ((10.0, 0.0, 10.2), 0, 0.0),
        ((50.0, 10.0, 50.0), 2, 40.0),
    ],
)
def test_jumps_of_stamps(clock: Clock, stamps: tuple[float, ...], jumps: int, last: float) -> None:
    camera = CameraStatistics(clock)
    arrive(camera, clock, *stamps)
    report = camera.report()
    assert report.jumps == jumps
    assert report.last_jump == pytest.approx(last)
    clock.seconds += 11
    assert camera.report().jumps == 0


def test_an_outage_is_no_jump(clock: Clock) -> None:
    camera = CameraStatistics(clock)
    arrive(camera, clock, 10.0, 10.1)
    clock.seconds += 60
    arrive(camera, clock, 70.2)
    assert camera.report().jumps == 0


def test_unstamped_is_what_the_latest_is(clock: Clock) -> None:
    camera = CameraStatistics(clock)
    arrive(camera, clock, 5.0, 0.0)
    assert camera.report().unstamped
    camera.received(math.nan)  # a message that cannot be read says nothing of stamps
    assert camera.report().unstamped
    arrive(camera, clock, 5.2)
    assert not camera.report().unstamped


def test_replaced_and_lost_per_second(clock: Clock) -> None:
    camera = CameraStatistics(clock)
    camera.replaced()
    camera.lost(7)
    clock.seconds += 2
    report = camera.report()
    assert (report.rate_replaced, report.rate_lost, report.settled) == (0.5, 3.5, False)
    clock.seconds += 8
    report = camera.report()
    assert (report.rate_replaced, report.rate_lost, report.settled) == (0.1, 0.7, True)
