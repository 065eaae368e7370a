from __future__ import annotations

import pytest

from pose_node.prediction.frames import Failure, Selection
from tests.prediction.conftest import make_recorded

SECOND = 1_000_000_000


def chosen(selection: Selection, frames: int = 10) -> list[int]:
    """The frames that are wanted of some at 10 a second, until the selection says stop."""
    found = []
    for index in range(frames):
        answer = selection.choose(index, index * SECOND // 10)
        if answer is None:
            break
        if answer:
            found.append(index)
    return found


@pytest.mark.parametrize(
    ("text", "every", "expected"),
    [
        (":", 1, list(range(10))),
        (":", 3, [0, 3, 6, 9]),
        ("2:7", 1, [2, 3, 4, 5, 6]),
        ("2:7", 2, [2, 4, 6]),
        ("8:", 1, [8, 9]),
        (":2", 1, [0, 1]),
        ("50:", 1, []),
        ("0.2s:0.5s", 1, [2, 3, 4]),
        ("0.75s:", 1, [8, 9]),
        (":0.2s", 1, [0, 1]),
        ("0.3s:0.9s", 2, [4, 6, 8]),
    ],
)
def test_ranges(text: str, every: int, expected: list[int]) -> None:
    selection = Selection.parse(text, every=every)
    assert chosen(selection) == expected
    if not selection.by_time:
        assert selection.count(10) == len(expected)
    else:
        assert selection.count(10) is None
    assert selection.count(None) is None


def test_nothing_after_the_end_is_looked_at() -> None:
    assert Selection.parse(":3").choose(3, 0) is None
    assert Selection.parse(":0.3s").choose(0, 300_000_000) is None


@pytest.mark.parametrize("text", ["", "5", "a:b", "5s:7", "-1:3", "1:2:3", "1.5:2"])
def test_no_range(text: str) -> None:
    with pytest.raises(ValueError, match="expected a range of frames"):
        Selection.parse(text)


@pytest.mark.parametrize("text", ["5:5", "5:2", "0:0", "2s:1s"])
def test_empty_range(text: str) -> None:
    with pytest.raises(ValueError, match="ends after it starts"):
        Selection.parse(text)


def test_words_about_frames() -> None:
    frame = make_recorded(3, topic="/t")
    assert frame.key == ("a.mp4", "/t", 3)
    assert frame.size == (32, 24)
    assert str(Failure("a.mp4", "broken")) == "a.mp4: broken"
    assert str(Failure("bag", "broken", "/t", 3)) == "bag /t frame 3: broken"


@pytest.mark.parametrize("text", ["2s:7s", "0.3s:", ":0.7s", "0.25s:0.31s", "9s:20s", ":", "7:90"])
@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_times_are_counted_where_the_rate_is_known(text: str, every: int) -> None:
    selection = Selection.parse(text, every=every)
    chosen = [index for index in range(100) if selection.choose(index, index * 100_000_000)]
    assert selection.count(100, 10) == len(chosen)
    assert selection.count(None, 10) is None
    assert (selection.count(100) is None) == selection.by_time
