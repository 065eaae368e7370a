"""What the node counts and times, from any thread. No ROS here."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

WINDOW_SECONDS = 10.0


class Window:
    """Values of the last seconds. Not for several threads at once."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._values: deque[tuple[float, float]] = deque(maxlen=10_000)
        self._started = now()

    def add(self, value: float) -> None:
        """Remember a value."""
        self._values.append((self._now(), value))

    def rate(self) -> float:
        """Values per second."""
        self._forget()
        return len(self._values) / min(WINDOW_SECONDS, max(self._now() - self._started, 1e-3))

    def percentiles(self, *percents: float) -> list[float] | None:
        """Percentiles of the values, without those that are NaN; None without any."""
        self._forget()
        known = [value for _, value in self._values if not math.isnan(value)]
        if not known:
            return None
        return [float(value) for value in np.percentile(known, percents)]

    def _forget(self) -> None:
        oldest = self._now() - WINDOW_SECONDS
        while self._values and self._values[0][0] < oldest:
            self._values.popleft()


@dataclass(frozen=True)
class CameraReport:
    """The state of one camera at one moment; rates and times of the last ten seconds.

    Attributes:
        received, published, replaced, lost: images since the start: arrived, answered with poses,
            replaced by a newer one before their turn, lost by the middleware.
        refused: images that could not be used since the start, by kind of fault.
        last_error: the latest of those faults in words.
        rate_in, rate_out, rate_refused: images, answers and refusals per second.
        age: stamp to publication, milliseconds, p50 and p95; None without answers.
        arrival: stamp to arrival at the node, likewise.
        wait: arrival to its turn, likewise.
        silent: no image in this window.
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
    age: list[float] | None
    arrival: list[float] | None
    wait: list[float] | None
    silent: bool


class CameraStatistics:
    """Counts the images of one camera; from any thread."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._last_error = ""
        self._arrivals, self._waits, self._ages = Window(now), Window(now), Window(now)
        self._refusals = Window(now)

    def received(self, arrival_ms: float) -> None:
        """An image arrived, so many milliseconds after its stamp (NaN: without one)."""
        with self._lock:
            self._counts["received"] += 1
            self._arrivals.add(arrival_ms)

    def replaced(self) -> None:
        """An image was replaced by a newer one before its turn."""
        with self._lock:
            self._counts["replaced"] += 1

    def lost(self, count: int) -> None:
        """The middleware lost images."""
        with self._lock:
            self._counts["lost"] += count

    def refused(self, kind: str, reason: str) -> None:
        """An image could not be used."""
        with self._lock:
            self._refused[kind] += 1
            self._refusals.add(1)
            self._last_error = reason

    def published(self, wait_ms: float, age_ms: float) -> None:
        """An image was answered: it waited so long for its turn, and was so old in the end."""
        with self._lock:
            self._counts["published"] += 1
            self._waits.add(wait_ms)
            self._ages.add(age_ms)

    def report(self) -> CameraReport:
        """The state now."""
        with self._lock:
            rate_in = self._arrivals.rate()
            return CameraReport(
                received=self._counts["received"],
                published=self._counts["published"],
                replaced=self._counts["replaced"],
                lost=self._counts["lost"],
                refused=dict(self._refused),
                last_error=self._last_error,
                rate_in=rate_in,
                rate_out=self._ages.rate(),
                rate_refused=self._refusals.rate(),
                age=self._ages.percentiles(50, 95),
                arrival=self._arrivals.percentiles(50, 95),
                wait=self._waits.percentiles(50, 95),
                silent=rate_in == 0,
            )


@dataclass(frozen=True)
class DepthReport:
    """The state of one camera's depth at one moment; rates of the last ten seconds.

    Attributes:
        received: depth images that arrived since the start.
        matched: colour images whose depth was found.
        missed: colour images without depth, calibration or transform.
        refused: depth images that could not be used.
        last_error: the latest reason of those two, in words; "" if there was none.
        rate_in, rate_missed: depth images, and colour images without, per second.
    """

    received: int
    matched: int
    missed: int
    refused: int
    last_error: str
    rate_in: float
    rate_missed: float


class DepthStatistics:
    """Counts the depth of one camera; from any thread."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._last_error = ""
        self._arrivals, self._misses = Window(now), Window(now)

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
            self._last_error = reason

    def report(self) -> DepthReport:
        """The state now."""
        with self._lock:
            return DepthReport(
                received=self._counts["received"],
                matched=self._counts["matched"],
                missed=self._counts["missed"],
                refused=self._counts["refused"],
                last_error=self._last_error,
                rate_in=self._arrivals.rate(),
                rate_missed=self._misses.rate(),
            )


@dataclass
class StageStatistics:
    """Times the stages of the work, and counts failures; from any thread."""

    failures: int = 0
    last_failure: str = ""
    failing: bool = False
    _stages: dict[str, Window] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def worked(self, seconds: Mapping[str, float]) -> None:
        """The work was done, in so many seconds for each stage."""
        with self._lock:
            self.failing = False
            for name, value in seconds.items():
                self._stages.setdefault(name, Window()).add(value * 1e3)

    def failed(self, reason: str) -> None:
        """The work failed."""
        with self._lock:
            self.failing = True
            self.failures += 1
            self.last_failure = reason

    def stages_ms(self) -> dict[str, list[float]]:
        """For each stage p50 and p95 in milliseconds."""
        with self._lock:
            found = {name: stage.percentiles(50, 95) for name, stage in self._stages.items()}
        return {name: values for name, values in found.items() if values is not None}
