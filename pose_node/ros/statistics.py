"""What the node counts and times, from any thread. No ROS here."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pose_node.ros.window import Window

SILENT_SECONDS = 5.0
_SILENT_INTERVALS = 3.0  # a camera that sends an image every ten seconds is not silent in between
_STEP_BACK_SECONDS = 0.1  # of stamps; less is what clocks do that are synchronised
_JUMP_SECONDS = 1.0  # by which a stamp may differ from what the time since the last one suggests


@dataclass(frozen=True)
class CameraReport:
    """The state of one camera at one moment; rates and times of the last ten seconds.

    Attributes:
        received, published, replaced, lost: images since the start: arrived, answered with poses,
            replaced by a newer one before their turn, lost by the middleware.
        refused: images that could not be used since the start, by kind of fault.
        last_error: the latest of those faults in words.
        rate_in, rate_out, rate_refused, rate_replaced, rate_lost: of these things, per second.
        age: stamp to publication, milliseconds, p50 and p95; None without answers.
        arrival: stamp to arrival at the node, likewise.
        wait: arrival to its turn, likewise.
        waiting: seconds for which images have come, and none of them was answered.
        usual_waiting: the longest of the latest that ended with an answer.
        silent: no image has come for `SILENT_SECONDS`, and for longer than this camera's pace
            explains; or none ever.
        jumps: how often a stamp did not follow from the one before, as when a clock is set.
        last_jump: seconds of the latest, negative for back.
        unstamped: the latest image had no stamp.
        failure: why the latest image could not be processed; "" if it could.
        partial_failure: why something that goes with the people of the latest image could not be
            published; "" if all could.
        settled: the window is full: what it shows is no accident of the start.
    """

    received: int
    published: int
    replaced: int
    lost: int
    refused: Mapping[str, int]
    last_error: str
    rate_in: float
    rate_out: float
    rate_refused: float
    rate_replaced: float
    rate_lost: float
    age: list[float] | None
    arrival: list[float] | None
    wait: list[float] | None
    waiting: float
    usual_waiting: float
    silent: bool
    jumps: int
    last_jump: float
    unstamped: bool
    failure: str
    partial_failure: str
    settled: bool


class CameraStatistics:
    """Counts the images of one camera; from any thread."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._last_error = ""
        self._arrivals, self._waits, self._ages = Window(now), Window(now), Window(now)
        self._refusals, self._replacements, self._losses = Window(now), Window(now), Window(now)
        self._jumps = Window(now)
        self._last_jump = 0.0
        self._last_arrival = -math.inf
        self._intervals: deque[float] = deque(maxlen=9)
        self._last_stamp: tuple[float, int] | None = None  # when it came, nanoseconds
        self._unstamped = False
        self._waiting_since: float | None = None
        self._answers: deque[float] = deque(maxlen=9)
        self._failure = self._partial_failure = ""

    def received(self, arrival_ms: float, stamp_ns: int | None = None) -> None:
        """An image arrived.

        Args:
            arrival_ms: so many milliseconds after its stamp; NaN without one.
            stamp_ns: that stamp, 0 if the camera gave none, None if it cannot be read.
        """
        with self._lock:
            self._counts["received"] += 1
            self._arrivals.add(arrival_ms)
            now = self._now()
            if math.isfinite(self._last_arrival):
                self._intervals.append(now - self._last_arrival)
            self._last_arrival = now
            if self._waiting_since is None:
                self._waiting_since = now
            if stamp_ns is not None:
                self._stamped(now, stamp_ns)

    def _stamped(self, now: float, stamp_ns: int) -> None:
        self._unstamped = stamp_ns == 0
        if self._unstamped:
            return
        if self._last_stamp is not None:
            came, last = self._last_stamp
            step, expected = (stamp_ns - last) / 1e9, now - came
            if step < -_STEP_BACK_SECONDS or abs(step - expected) > _JUMP_SECONDS + expected:
                self._jumps.add(step)
                self._last_jump = step
        self._last_stamp = now, stamp_ns

    def nothing_awaited(self) -> None:
        """Of the images until now none will be answered, and none need be."""
        with self._lock:
            self._waiting_since = None
            self._failure = self._partial_failure = ""

    def replaced(self) -> None:
        """An image was replaced by a newer one before its turn."""
        with self._lock:
            self._counts["replaced"] += 1
            self._replacements.add(1)

    def lost(self, count: int) -> None:
        """The middleware lost images."""
        with self._lock:
            self._counts["lost"] += count
            self._losses.add(count)

    def refused(self, kind: str, reason: str) -> None:
        """An image could not be used."""
        with self._lock:
            self._refused[kind] += 1
            self._refusals.add(1)
            self._last_error = reason
            self._waiting_since = None

    def published(self, wait_ms: float, age_ms: float) -> None:
        """An image was answered: it waited so long for its turn, and was so old in the end."""
        with self._lock:
            self._counts["published"] += 1
            self._failure = ""
            if self._waiting_since is not None:
                self._answers.append(self._now() - self._waiting_since)
            self._waiting_since = None
            self._waits.add(wait_ms)
            self._ages.add(age_ms)

    def failed(self, reason: str) -> None:
        """An image could not be processed, for a reason that is not the image."""
        with self._lock:
            self._failure = reason

    def failed_in_part(self, reason: str) -> None:
        """An image was answered, but something that goes with its people was not published."""
        with self._lock:
            self._partial_failure = reason

    def complete(self) -> None:
        """Everything that goes with the people of an image was published."""
        with self._lock:
            self._partial_failure = ""

    def report(self) -> CameraReport:
        """The state now."""
        with self._lock:
            return CameraReport(
                received=self._counts["received"],
                published=self._counts["published"],
                replaced=self._counts["replaced"],
                lost=self._counts["lost"],
                refused=dict(self._refused),
                last_error=self._last_error,
                rate_in=self._arrivals.rate(),
                rate_out=self._ages.rate(),
                rate_refused=self._refusals.rate(),
                rate_replaced=self._replacements.rate(),
                rate_lost=self._losses.total(),
                age=self._ages.percentiles(50, 95),
                arrival=self._arrivals.percentiles(50, 95),
                wait=self._waits.percentiles(50, 95),
                waiting=(0.0 if self._waiting_since is None else self._now() - self._waiting_since),
                usual_waiting=max(self._answers, default=0.0),
                silent=self._now() - self._last_arrival > self._patience(),
                jumps=self._jumps.count(),
                last_jump=self._last_jump,
                unstamped=self._unstamped,
                failure=self._failure,
                partial_failure=self._partial_failure,
                settled=self._arrivals.settled(),
            )

    def _patience(self) -> float:
        """Seconds without an image that are no silence yet."""
        usual = float(np.median(self._intervals)) if self._intervals else 0.0
        return max(SILENT_SECONDS, _SILENT_INTERVALS * usual)


@dataclass(frozen=True)
class DepthReport:
    """The state of one camera's depth at one moment; rates of the last ten seconds.

    Attributes:
        received: depth images that arrived since the start.
        matched: colour images whose depth was found.
        missed: colour images without depth, calibration or transform.
        refused: depth images that could not be used.
        last_error: the latest reason of those two, in words; "" if there was none.
        last_refusal: the latest reason of a refusal.
        rate_in, rate_missed, rate_refused: depth images, colour images without, and depth images
            that could not be used, per second.
    """

    received: int
    matched: int
    missed: int
    refused: int
    last_error: str
    last_refusal: str
    rate_in: float
    rate_missed: float
    rate_refused: float


class DepthStatistics:
    """Counts the depth of one camera; from any thread."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._last_error = self._last_refusal = ""
        self._arrivals, self._misses, self._refusals = Window(now), Window(now), Window(now)

    def received(self) -> None:
        """A depth image arrived."""
        with self._lock:
            self._counts["received"] += 1
            self._arrivals.add(1)

    def matched(self) -> None:
        """The depth of a colour image was found."""
        with self._lock:
            self._counts["matched"] += 1

    def missed(self, reason: str) -> None:
        """The depth of a colour image was not found."""
        with self._lock:
            self._counts["missed"] += 1
            self._misses.add(1)
            self._last_error = reason

    def refused(self, reason: str) -> None:
        """A depth image could not be used."""
        with self._lock:
            self._counts["refused"] += 1
            self._refusals.add(1)
            self._last_error = self._last_refusal = reason

    def report(self) -> DepthReport:
        """The state now."""
        with self._lock:
            return DepthReport(
                received=self._counts["received"],
                matched=self._counts["matched"],
                missed=self._counts["missed"],
                refused=self._counts["refused"],
                last_error=self._last_error,
                last_refusal=self._last_refusal,
                rate_in=self._arrivals.rate(),
                rate_missed=self._misses.rate(),
                rate_refused=self._refusals.rate(),
            )


@dataclass(frozen=True)
class StageReport:
    """Times and failures of the work at one moment.

    Attributes:
        stages_ms: for each stage p50 and p95 in milliseconds.
        failures: how many images could not be processed, since the start.
        last_failure: the latest reason.
    """

    stages_ms: Mapping[str, list[float]]
    failures: int
    last_failure: str


class StageStatistics:
    """Times the stages of the work, and counts failures; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[str, Window] = {}
        self._failures = 0
        self._last_failure = ""

    def worked(self, seconds: Mapping[str, float]) -> None:
        """The work was done, in so many seconds for each stage."""
        with self._lock:
            for name, value in seconds.items():
                self._stages.setdefault(name, Window()).add(value * 1e3)

    def failed(self, reason: str) -> None:
        """The work failed."""
        with self._lock:
            self._failures += 1
            self._last_failure = reason

    def report(self) -> StageReport:
        """The state now."""
        with self._lock:
            found = {name: stage.percentiles(50, 95) for name, stage in self._stages.items()}
            return StageReport(
                {name: values for name, values in found.items() if values is not None},
                self._failures,
                self._last_failure,
            )
