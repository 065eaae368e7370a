"""What is found by its stamp, what is waited for and what is not."""

from __future__ import annotations

import threading

from pose_node.ros.stamp_buffer import StampBuffer

MS = 1_000_000
FOREVER = 60.0


def filled(*stamps_ms: int, size: int = 30) -> StampBuffer[int]:
    buffer: StampBuffer[int] = StampBuffer(size)
    for stamp in stamps_ms:
        buffer.put(stamp * MS, stamp)
    return buffer


def nearest(buffer: StampBuffer[int], stamp_ms: int, *, slop_ms: int = 20) -> int | None:
    return buffer.nearest(stamp_ms * MS, slop_ns=slop_ms * MS)


def test_finds_the_nearest_within_the_slop() -> None:
    stamps = (1000, 1033, 1067)
    assert nearest(filled(*stamps), 1033) == 1033
    assert nearest(filled(*stamps), 1016) == 1000
    assert nearest(filled(*stamps), 1018) == 1033
    assert nearest(filled(*stamps), 1087) == 1067
    assert nearest(filled(*stamps), 1088) is None
    assert nearest(filled(*stamps), 979) is None


def test_keeps_no_more_bytes_than_allowed_but_always_the_newest() -> None:
    buffer: StampBuffer[int] = StampBuffer(30, bytes_limit=100)
    for stamp in (1000, 1033, 1067):
        buffer.put(stamp * MS, stamp, 40)
    assert [nearest(buffer, stamp) for stamp in (1000, 1033)] == [None, 1033]
    buffer.put(1100 * MS, 1100, 101)
    assert [nearest(buffer, stamp) for stamp in (1067, 1100)] == [None, 1100]
    buffer.put(1133 * MS, 1133, 1)
    assert [nearest(buffer, stamp) for stamp in (1100, 1133)] == [None, 1133]


def test_forgets_what_is_older_and_keeps_what_is_found() -> None:
    buffer = filled(1000, 1033, 1067)
    assert nearest(buffer, 1034) == 1033
    assert nearest(buffer, 1034) == 1033
    assert nearest(buffer, 1000) is None
    assert nearest(buffer, 1067) == 1067


def test_forgets_the_oldest_of_too_many() -> None:
    buffer = filled(*range(0, 1000, 100), size=3)
    assert nearest(buffer, 600) is None
    assert nearest(buffer, 700) == 700


def test_the_newest_of_equal_ones() -> None:
    buffer: StampBuffer[str] = StampBuffer(5)
    for item in "abc":
        buffer.put(0, item)
    assert buffer.nearest(0, slop_ns=0) == "c"


def test_a_clock_that_jumps_back_starts_afresh() -> None:
    buffer = filled(100_000, 100_033)
    buffer.put(99_990 * MS, 99_990)  # late, no jump
    assert nearest(buffer, 100_033) == 100_033
    buffer.put(5_000 * MS, 5_000)
    assert nearest(buffer, 5_000) == 5_000
    assert nearest(buffer, 100_033) is None


def test_waits_for_what_may_still_come() -> None:
    buffer = filled(1000)
    found: list[int | None] = []
    waiter = threading.Thread(
        target=lambda: found.append(buffer.nearest(1033 * MS, slop_ns=10 * MS, patience_s=FOREVER))
    )
    waiter.start()
    buffer.put(1010 * MS, 1010)  # not that one
    buffer.put(1035 * MS, 1035)
    waiter.join(timeout=10)
    assert found == [1035]


def test_waits_for_a_while_only() -> None:
    assert filled(1000).nearest(1100 * MS, slop_ns=MS, patience_s=0.01) is None


def test_waits_not_for_what_will_never_come() -> None:
    # A later one is there already; or nothing has come for long.
    assert filled(1000).nearest(900 * MS, slop_ns=MS, patience_s=FOREVER) is None
    silent: StampBuffer[int] = StampBuffer(5)
    assert silent.nearest(900 * MS, slop_ns=MS, patience_s=FOREVER) is None


def test_closing_wakes_who_waits() -> None:
    buffer = filled(1000)
    found: list[int | None] = []
    waiter = threading.Thread(
        target=lambda: found.append(buffer.nearest(2000 * MS, slop_ns=MS, patience_s=FOREVER))
    )
    waiter.start()
    buffer.close()
    waiter.join(timeout=10)
    assert found == [None]
    assert buffer.nearest(2000 * MS, slop_ns=MS, patience_s=FOREVER) is None


def test_says_how_far_off_the_nearest_is() -> None:
    assert filled().offset_ns(0) is None
    assert filled(1000, 1100).offset_ns(1090 * MS) == 10 * MS
    assert filled(1000, 1100).offset_ns(1010 * MS) == -10 * MS
