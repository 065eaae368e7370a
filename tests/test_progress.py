"""The progress line: drawn on a terminal, silent elsewhere."""

from __future__ import annotations

import io
import time

import pytest

from pose_node.progress import ProgressLine


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_it_is_silent_without_a_terminal() -> None:
    stream = io.StringIO()
    with ProgressLine("fetching", unit="bytes", stream=stream) as progress:
        progress(1, 2)
        progress(2, 2)
    assert stream.getvalue() == ""


def test_bytes_are_shown_as_megabytes_and_the_line_goes_away() -> None:
    stream = Terminal()
    with ProgressLine("fetching x", unit="bytes", stream=stream) as progress:
        progress(3_000_000, 3_000_000)
    assert "fetching x: 100 % (3.0 of 3.0 MB)" in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_unknown_total_shows_what_is_done() -> None:
    stream = Terminal()
    ProgressLine("looking", unit="images", stream=stream)(7, None)
    assert stream.getvalue().endswith("looking: (7 images)")


def test_it_is_not_redrawn_for_every_step_but_for_the_last() -> None:
    stream = Terminal()
    progress = ProgressLine("looking", unit="images", stream=stream)
    for done in range(1, 1001):
        progress(done, 1000)
    assert stream.getvalue().count("looking") < 900
    assert "(1000 of 1000 images)" in stream.getvalue()


@pytest.mark.parametrize(
    ("total", "seconds", "expected"),
    [
        (1000, 2.0, "(100 of 1000 frames), 49.5/s, 0:18 left"),
        (400_000, 2.0, "(100 of 400000 frames), 49.5/s, 2:14:39 left"),
        (None, 2.0, "(100 frames), 49.5/s"),
        (1000, 0.0, "(100 of 1000 frames)"),
    ],
)
def test_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, total: int | None, seconds: float, expected: str
) -> None:
    clock = iter((100.0, 100.0 + seconds))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    stream = Terminal()
    progress = ProgressLine("video", unit="frames", rate=True, stream=stream)
    progress(1, total)
    progress._last_drawn = 0
    progress(100, total)
    assert stream.getvalue().endswith(expected)
