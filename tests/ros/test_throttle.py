"""One log line of each kind in a while."""

from __future__ import annotations

from pose_node.ros.throttle import Throttle
from tests.ros.conftest import Clock


def test_one_of_each_kind_in_a_period(clock: Clock) -> None:
    throttle = Throttle(seconds=5.0, now=clock)
    assert throttle.lets_through("front", "zero area")
    assert not throttle.lets_through("front", "zero area")
    assert throttle.lets_through("rear", "zero area")
    assert throttle.lets_through("front", "absurd size")
    clock.seconds += 4.9
    assert not throttle.lets_through("front", "zero area")


def test_lets_through_again_after_the_period(clock: Clock) -> None:
    throttle = Throttle(seconds=5.0, now=clock)
    assert throttle.lets_through("front")
    clock.seconds += 5.0
    assert throttle.lets_through("front")
    assert not throttle.lets_through("front")


def test_what_was_held_back_does_not_prolong_the_period(clock: Clock) -> None:
    throttle = Throttle(seconds=5.0, now=clock)
    passed = []
    for _ in range(20):
        passed.append(throttle.lets_through("front"))
        clock.seconds += 1.0
    assert passed == ([True] + [False] * 4) * 4
