"""The run: threads, failures, batches, stopping and resuming, without a network."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose_node.errors import ImageError, OutputError, SourceError
from pose_node.interruption import stop_on_signals
from pose_node.poses import Poses
from pose_node.prediction.frames import Failure, RecordedFrame, Recording
from pose_node.prediction.journal import Journal
from pose_node.prediction.run import Progress, Summary, predict
from tests.prediction.conftest import FakeEngine, FakeRecording, make_recorded


class Notes:
    """An output that writes down what it is told."""

    def __init__(self, *, broken: Exception | None = None) -> None:
        self.told: list[Any] = []
        self.people: list[Poses] = []
        self.broken = broken

    def begin(self, recording: Recording) -> None:
        self.told.append(recording.name)

    def write(self, frame: RecordedFrame, poses: Poses) -> None:
        if self.broken is not None:
            raise self.broken
        self.told.append(frame.index)
        self.people.append(poses)

    def end(self, *, complete: bool) -> None:
        self.told.append(complete)

    def close(self) -> list[Path]:
        self.told.append("closed")
        return [Path("notes")]

    def abort(self) -> None:
        self.told.append("aborted")


def frames(count: int, **changes: Any) -> list[RecordedFrame | Failure | Exception]:
    return [make_recorded(index, **changes) for index in range(count)]


def run(
    recordings: dict[str, Any], output: Notes | None = None, **arguments: Any
) -> tuple[Summary, Notes]:
    """Predict on recordings by name; an exception is raised when it is opened."""
    output = output or Notes()

    def open_source(name: str) -> Recording:
        if isinstance(recordings[name], Exception):
            raise recordings[name]
        recording: Recording = recordings[name]
        return recording

    engine = arguments.pop("engine", None) or FakeEngine()
    return predict(engine, list(recordings), open_source, [output], **arguments), output


def test_everything_is_written_in_order() -> None:
    first, second = FakeRecording(frames(40)), FakeRecording(frames(2), name="b.mp4")
    seen: list[Any] = []
    progress = Progress(lambda *place: seen.append(place), lambda *state: seen.append(state))
    summary, notes = run({"a": first, "b": second}, progress=progress)
    assert notes.told == ["a.mp4", *range(40), True, "b.mp4", 0, 1, True, "closed"]
    assert (summary.frames, summary.people, summary.sources) == (42, 40, 2)
    assert (summary.complete, summary.failures, summary.files) == (True, [], [Path("notes")])
    assert first.closed
    assert second.closed
    assert seen[0] == ("a", 1, 2)
    assert seen[40:43] == [(40, 40), ("b", 2, 2), (1, 2)]


def test_what_cannot_be_read_is_named_and_the_rest_goes_on() -> None:
    recordings = {
        "gone": SourceError("gone does not exist"),
        "half": FakeRecording([*frames(2), Failure("x.png", "broken"), *frames(1)], name="half"),
        "stops": FakeRecording([*frames(1), SourceError("stopped")], name="stops"),
        "good": FakeRecording(frames(1), name="good"),
    }
    summary, notes = run(recordings)
    assert [str(failure) for failure in summary.failures] == [
        *("gone: gone does not exist", "x.png: broken", "stops: stopped")
    ]
    assert notes.told == ["half", 0, 1, 0, True, "stops", 0, True, "good", 0, True, "closed"]
    assert summary.complete


def test_batches() -> None:
    engine = FakeEngine()
    run({"a": FakeRecording(frames(10))}, engine=engine, batch_size=4)
    assert engine.batches == [4, 4, 2]
    live = FakeEngine()
    run({"0": FakeRecording(frames(3), kind="live")}, engine=live, batch_size=4)
    assert set(live.batches) == {1}


def test_a_frame_that_the_engine_refuses_costs_only_itself() -> None:
    class Picky(FakeEngine):
        def __call__(self, images: Any, *, channel_order: object = "") -> list[Poses]:
            if any(image[0, 0, 0] == 20 for image in images):
                raise ImageError("it is too grey", kind="grey")
            return super().__call__(images)

    summary, notes = run({"a": FakeRecording(frames(4))}, engine=Picky(), batch_size=4)
    assert notes.told == ["a.mp4", 0, 1, 3, True, "closed"]
    assert [str(failure) for failure in summary.failures] == ["a.mp4 frame 2: it is too grey"]


def test_stopping_finishes_what_was_done() -> None:
    stop = threading.Event()
    progress = Progress(frames=lambda done, total: stop.set() if done == 3 else None)
    recordings = {"a": FakeRecording(frames(100)), "b": FakeRecording(frames(1))}
    summary, notes = run(recordings, stop=stop, progress=progress)
    assert notes.told == ["a.mp4", 0, 1, 2, False, "closed"]
    assert not summary.complete
    assert summary.sources == 1


def test_a_source_that_hangs_can_be_stopped() -> None:
    hanging, stop = threading.Event(), threading.Event()

    class Hanging(FakeRecording):
        def __iter__(self) -> Iterator[RecordedFrame | Failure]:
            yield make_recorded(1)
            stop.set()
            hanging.wait()

    try:
        summary, notes = run({"0": Hanging([], kind="live")}, stop=stop)
    finally:
        hanging.set()
    assert notes.told[-2:] == [True, "closed"]
    assert summary.complete  # whoever ends a camera has all of it


def test_a_camera_that_is_not_the_last_source_leaves_work() -> None:
    stop = threading.Event()
    progress = Progress(frames=lambda done, total: stop.set())
    recordings = {"0": FakeRecording(frames(100), kind="live"), "b": FakeRecording(frames(1))}
    summary, notes = run(recordings, stop=stop, progress=progress)
    assert notes.told[-2:] == [False, "closed"]
    assert not summary.complete


@pytest.mark.parametrize("count", [1, 100])
def test_an_output_that_fails_ends_the_run(count: int) -> None:
    notes = Notes(broken=OutputError("disk full"))
    with pytest.raises(OutputError, match="disk full"):
        run({"a": FakeRecording(frames(count))}, notes)
    assert notes.told == ["a.mp4", "aborted"]


def test_an_output_that_cannot_be_finished_leaves_the_others_whole() -> None:
    class Unfinished(Notes):
        def close(self) -> list[Path]:
            raise OutputError("disk full")

    before, broken, after = Notes(), Unfinished(), Notes()
    with pytest.raises(OutputError, match="disk full"):
        predict(
            FakeEngine(),
            ["a"],
            lambda _: FakeRecording(frames(2)),
            [before, broken, after],
        )
    assert before.told[-1] == after.told[-1] == "closed"
    assert broken.told[-1] == "aborted"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_of_an_output_does_not_hang() -> None:
    notes = Notes(broken=ZeroDivisionError())
    with pytest.raises(RuntimeError, match="writing results failed unexpectedly"):
        run({"a": FakeRecording(frames(100))}, notes)
    assert notes.told[-1] == "aborted"


def test_an_engine_that_breaks_leaves_nothing_unfinished() -> None:
    class Broken(FakeEngine):
        def __call__(self, images: Any, *, channel_order: object = "") -> list[Poses]:
            raise MemoryError("no memory")

    notes = Notes()
    recording = FakeRecording(frames(100))
    with pytest.raises(MemoryError):
        run({"a": recording}, notes, engine=Broken())
    assert notes.told == ["a.mp4", "aborted"]
    assert recording.closed


class Counter:
    """A tracker whose ids tell how many frames it has seen, and when."""

    def __init__(self) -> None:
        self.stamps: list[int | None] = []

    def update(self, poses: Poses, stamp_ns: int | None) -> Poses:
        self.stamps.append(stamp_ns)
        ids = np.full(len(poses), len(self.stamps))
        return Poses.from_arrays(poses.boxes_xyxy, poses.scores, poses.keypoints, ids)


def test_each_source_and_topic_has_a_tracker_of_its_own() -> None:
    items = [make_recorded(n, topic=topic) for n in (1, 2, 3) for topic in ("/a", "/b")]
    recordings = {"bag": FakeRecording(items), "b": FakeRecording([make_recorded(1)])}
    _, notes = run(recordings, new_tracker=Counter)
    assert [poses.ids.tolist() for poses in notes.people] == [[1], [1], [2], [2], [3], [3], [1]]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_resumed_run_computes_only_the_rest_and_finds_the_same(
    tmp_path: Path, batch_size: int
) -> None:
    def journal(*, resume: bool) -> Journal:
        return Journal(tmp_path / "journal", {}, num_keypoints=3, resume=resume)

    arguments: dict[str, Any] = {"new_tracker": Counter, "batch_size": batch_size}
    _, expected = run({"a": FakeRecording(frames(20))}, **arguments)

    stop = threading.Event()
    progress = Progress(frames=lambda done, total: stop.set() if done >= 6 else None)
    first = journal(resume=False)
    before, _ = run(
        *({"a": FakeRecording(frames(20))},),
        journal=first,
        stop=stop,
        progress=progress,
        **arguments,
    )
    first.close(keep=True)
    engine, second = FakeEngine(), journal(resume=True)
    summary, notes = run(
        {"a": FakeRecording(frames(20))}, journal=second, engine=engine, **arguments
    )
    second.close(keep=False)
    assert summary.recalled == before.frames < 20
    assert sum(engine.batches) == 20 - before.frames
    assert notes.told == expected.told
    for ours, theirs in zip(notes.people, expected.people, strict=True):
        np.testing.assert_array_equal(ours.keypoints, theirs.keypoints)
        np.testing.assert_array_equal(ours.ids, theirs.ids)


def test_the_first_signal_asks_and_the_second_interrupts() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    stop = threading.Event()
    with stop_on_signals(stop, signal.SIGUSR1):
        signal.raise_signal(signal.SIGUSR1)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) == before
