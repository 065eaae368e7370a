"""Parts of one image joined by their stamps."""

from __future__ import annotations

from typing import Any

from pose_node.viewing.joining import StampJoiner

SECOND = 1_000_000_000


def put(joiner: StampJoiner, stamp: int, part: str) -> list[tuple[int, list[str]]]:
    return [(found, sorted(parts)) for found, parts in joiner.put(stamp, part, f"{part}{stamp}")]


def test_an_image_waits_for_its_people() -> None:
    joiner = StampJoiner("poses")
    assert put(joiner, 1, "image") == []
    assert list(joiner.put(1, "poses", "people")) == [(1, {"image": "image1", "poses": "people"})]


def test_people_wait_for_an_image_that_comes_later() -> None:
    joiner = StampJoiner("poses")
    assert put(joiner, 1, "poses") == [(1, ["poses"])]  # no image was ever seen
    assert put(joiner, 2, "image") == []
    assert put(joiner, 2, "poses") == [(2, ["image", "poses"])]
    assert put(joiner, 3, "poses") == []
    assert put(joiner, 3, "image") == [(3, ["image", "poses"])]


def test_what_was_passed_over_is_dropped_and_lost_images_delay_only_until_the_next() -> None:
    joiner = StampJoiner("poses")
    assert put(joiner, 1, "image") == put(joiner, 2, "image") == []
    assert put(joiner, 2, "poses") == [(2, ["image", "poses"])]  # the node passed over image 1
    assert put(joiner, 1, "poses") == []  # too late
    assert put(joiner, 3, "poses") == []  # its image was lost on the way
    assert put(joiner, 4, "image") == []
    assert put(joiner, 4, "poses") == [(3, ["poses"]), (4, ["image", "poses"])]


def test_a_topic_that_stays_away_is_not_waited_for() -> None:
    joiner = StampJoiner("poses", kept=3)
    put(joiner, 1, "image")
    assert put(joiner, 1, "poses") == [(1, ["image", "poses"])]
    given = [stamp for at in range(2, 30) for stamp, _ in put(joiner, at, "poses")]
    assert given == list(range(2, 30))
    assert put(joiner, 30, "image") == []
    assert put(joiner, 30, "poses") == [(30, ["image", "poses"])]


def test_memory_is_bounded_where_no_people_come() -> None:
    joiner = StampJoiner("poses", kept=4)
    values: list[Any] = [pair for at in range(100) for pair in joiner.put(at, "image", at)]
    assert values == []
    assert put(joiner, 95, "poses") == [(95, ["poses"])]  # its image had to go
    assert put(joiner, 98, "poses") == [(98, ["image", "poses"])]


def test_time_begins_anew_when_a_bag_starts_again() -> None:
    joiner = StampJoiner("poses")
    assert put(joiner, 5 * SECOND, "poses") == [(5 * SECOND, ["poses"])]
    assert put(joiner, 2 * SECOND, "poses") == [(2 * SECOND, ["poses"])]
