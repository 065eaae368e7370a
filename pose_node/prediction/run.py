"""The run itself: frames of many recordings through one engine, into any number of outputs.

A thread reads ahead while the engine computes and another one writes, with a bounded queue between
each, so memory stays flat however long a recording is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from pose_node.errors import ImageError, SourceError
from pose_node.playback import FrameReader
from pose_node.poses import ChannelOrder, Poses
from pose_node.prediction.frames import AnsweredFrame, Failure, RecordedFrame, Recording
from pose_node.prediction.journal import Journal
from pose_node.prediction.outputs import Output
from pose_node.prediction.writer import ResultWriter
from pose_node.source_names import shown_name


class Engine(Protocol):
    """What is needed of an engine; `pose_node.PoseEngine` is one."""

    def __call__(
        self,
        images: Sequence[np.ndarray],
        *,
        channel_order: ChannelOrder | Sequence[ChannelOrder] = "bgr",
    ) -> list[Poses]:
        """People in images."""


class Tracker(Protocol):
    """Gives people ids."""

    def update(self, poses: Poses, stamp_ns: int | None) -> Poses:
        """The people of the next frame; without a stamp, those of an image by itself."""


@dataclass
class Summary:
    """What became of a run.

    Attributes:
        frames: images that were looked at.
        recalled: of these, how many were known from the run before.
        people: found in them.
        sources: how many sources were read, those with failures included.
        failures: what could not be read.
        files: what was written.
        seconds: how long it took.
        complete: whether it came to its end.
    """

    frames: int = 0
    recalled: int = 0
    people: int = 0
    sources: int = 0
    failures: list[Failure] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    seconds: float = 0.0
    complete: bool = False


@dataclass(frozen=True)
class Progress:
    """Called as the run goes on.

    Attributes:
        source: with a source's name, its number from 1 and how many there are, when it begins.
        frames: with the frames of the source that are done, and their number if it is known.
    """

    source: Callable[[str, int, int], None] = lambda name, number, total: None
    frames: Callable[[int, int | None], None] = lambda done, total: None


def predict(
    engine: Engine,
    sources: Sequence[str],
    open_source: Callable[[str], Recording],
    outputs: Sequence[Output],
    *,
    journal: Journal | None = None,
    new_tracker: Callable[[], Tracker] | None = None,
    batch_size: int = 1,
    stop: threading.Event | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Run an engine over recordings.

    A source that cannot be read is a failure in the summary; the others go on. When `stop` is set,
    the run ends after the frames at hand, with outputs finished as far as it came. That is how a
    live source ends; if it is the last one, the run is complete.

    Args:
        engine: the engine; used by the calling thread alone.
        sources: names of the sources.
        open_source: opens one by its name.
        outputs: written to in a thread of their own.
        journal: remembers what was found, and knows what a run before found.
        new_tracker: makes a tracker for each source and topic; None for no tracking.
        batch_size: so many images at once, where they need not be waited for.
        stop: set it, from a signal handler for example, to end early.
        progress: what to call.

    Raises:
        PoseNodeError: an output cannot be written. Unfinished files are deleted.
    """
    stop, progress = stop or threading.Event(), progress or Progress()
    summary, ended_live = Summary(), False
    started = time.monotonic()
    with ResultWriter(outputs) as writer:
        for number, name in enumerate(sources, start=1):
            if stop.is_set():
                break
            progress.source(shown_name(name), number, len(sources))
            summary.sources += 1
            try:
                recording = open_source(name)
            except SourceError as error:
                summary.failures.append(Failure(shown_name(name), str(error)))
                continue
            run = _RecordingRun(engine, recording, journal, new_tracker, batch_size, summary)
            writer.begin(recording)
            run(writer, stop, progress.frames)
            ended_live = recording.kind == "live" and number == len(sources)
            writer.end(complete=ended_live or not stop.is_set())
    summary.complete = ended_live or not stop.is_set()
    summary.files = writer.files
    summary.seconds = time.monotonic() - started
    return summary


class _RecordingRun:
    """One recording through the engine."""

    def __init__(
        self,
        engine: Engine,
        recording: Recording,
        journal: Journal | None,
        new_tracker: Callable[[], Tracker] | None,
        batch_size: int,
        summary: Summary,
    ) -> None:
        self._engine = engine
        self._recording = recording
        self._journal = journal
        self._new_tracker = new_tracker
        self._trackers: dict[str, Tracker] = {}
        self._batch_size = 1 if recording.kind == "live" else batch_size
        self._summary = summary

    def __call__(
        self,
        writer: ResultWriter,
        stop: threading.Event,
        progress: Callable[[int, int | None], None],
    ) -> None:
        total = self._recording.frame_count
        done = 0
        reader = FrameReader(
            self._recording, lambda item: item, ahead=self._batch_size + 2, until=stop
        )
        try:
            items = iter(reader)
            while not stop.is_set() and (batch := list(islice(items, self._batch_size))):
                for frame, poses in self._process(batch):
                    self._summary.frames += 1
                    self._summary.people += len(poses)
                    writer.write(frame, poses)
                done += len(batch)
                progress(done, total)
        except SourceError as error:  # the source broke off
            name = shown_name(self._recording.name)
            self._summary.failures.append(Failure(name, str(error)))
            if self._journal is not None and self._recording.kind == "live":
                self._journal.add_end(name, str(error))
        finally:
            reader.close()

    def _process(
        self, batch: Sequence[RecordedFrame | Failure]
    ) -> Iterator[tuple[RecordedFrame, Poses]]:
        """The people of each frame; failures are put into the summary."""
        frames = [item for item in batch if isinstance(item, RecordedFrame)]
        self._summary.failures += [item for item in batch if isinstance(item, Failure)]
        known = [self._recall(frame) for frame in frames]
        new = [frame for frame, poses in zip(frames, known, strict=True) if poses is None]
        found = iter(self._infer(new))
        for frame, poses in zip(frames, known, strict=True):
            if poses is None:
                poses = next(found)
                if poses is None:
                    continue
                if self._journal is not None:
                    self._journal.add(frame, poses, live=self._recording.kind == "live")
            yield frame, self._track(frame, poses)

    def _recall(self, frame: RecordedFrame) -> Poses | None:
        """The people of a frame, if they are known."""
        if isinstance(frame, AnsweredFrame):
            self._summary.recalled += frame.recalled
            return frame.poses
        poses = None if self._journal is None else self._journal.recall(frame)
        self._summary.recalled += poses is not None
        return poses

    def _infer(self, frames: Sequence[RecordedFrame]) -> list[Poses | None]:
        """None for a frame that the engine does not take; that is a failure, too."""
        if not frames:
            return []
        try:
            return list(
                self._engine(
                    [frame.image for frame in frames],
                    channel_order=[frame.channel_order for frame in frames],
                )
            )
        except ImageError as error:
            if len(frames) > 1:
                return [poses for frame in frames for poses in self._infer([frame])]
            frame = frames[0]
            self._summary.failures.append(
                Failure(frame.source, str(error), frame.topic, frame.index)
            )
            return [None]

    def _track(self, frame: RecordedFrame, poses: Poses) -> Poses:
        if self._new_tracker is None:
            return poses
        if frame.topic not in self._trackers:
            self._trackers[frame.topic] = self._new_tracker()
        return self._trackers[frame.topic].update(poses, frame.stamp_ns)
