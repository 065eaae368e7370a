"""The schedule keeps its rate and the reader hands over every frame, or the newest."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pose_node.errors import SourceError
from pose_node.playback import FrameReader, Schedule
from pose_node.sources import SourceFrame


class FakeSource:
    """Frames without files; an exception among them is raised."""

    def __init__(self, kind: str, items: list[Exception | None]) -> None:
        self.kind = kind
        self.items = items
        self.closed = threading.Event()
        self.delivered = threading.Event()

    def __iter__(self) -> Iterator[SourceFrame]:
        for index, item in enumerate(self.items):
            if item is not None:
                raise item
            yield SourceFrame(np.zeros((1, 1, 3), np.uint8), index, 0.0, "fake", (1, 1))
        self.delivered.set()

    def close(self) -> None:
        self.closed.set()


def read(source: FakeSource) -> FrameReader[int]:
    fake: Any = source
    return FrameReader(fake, lambda frame: frame.index)


def test_schedule_counts_from_the_first_time() -> None:
    schedule = Schedule(10)
    due = [schedule.next_due(now) for now in (5.0, 5.02, 5.19, 5.35, 5.35)]
    assert due == pytest.approx([5.0, 5.1, 5.2, 5.3, 5.4])
    assert schedule.missed == 0


def test_schedule_leaves_out_what_was_missed() -> None:
    schedule = Schedule(10)
    due = [schedule.next_due(now) for now in (0.0, 0.1, 0.56, 0.57)]
    assert due == pytest.approx([0.0, 0.1, 0.5, 0.6])
    assert schedule.missed == 3


def test_a_file_is_read_whole() -> None:
    source = FakeSource("video", [None] * 50)
    assert list(read(source)) == list(range(50))
    assert source.closed.is_set()


def test_a_live_source_gives_the_newest() -> None:
    source = FakeSource("live", [None] * 50)
    reader = read(source)
    assert source.delivered.wait(10)
    assert list(reader) == [49]


def test_an_error_of_the_source_reaches_the_reader() -> None:
    reader = read(FakeSource("video", [None, None, SourceError("gone")]))
    seen: list[int] = []
    with pytest.raises(SourceError, match="gone"):
        seen.extend(iter(reader))


def test_an_unexpected_error_does_not_pass_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    reader = read(FakeSource("video", [ZeroDivisionError()]))
    with pytest.raises(RuntimeError, match="failed unexpectedly"):
        list(reader)


@pytest.mark.parametrize("kind", ["video", "live"])
def test_close_in_the_middle(kind: str) -> None:
    source = FakeSource(kind, [None] * 1_000_000)
    reader = read(source)
    for _ in reader:
        reader.close()
    assert source.closed.is_set()
    assert list(reader) == []
