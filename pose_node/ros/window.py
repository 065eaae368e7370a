"""Values of the last seconds, and what can be said of them. No ROS here."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

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
        return self.count() / min(WINDOW_SECONDS, max(self._now() - self._started, 1e-3))

    def count(self) -> int:
        """How many there are."""
        self._forget()
        return len(self._values)

    def total(self) -> float:
        """Their sum per second."""
        self._forget()
        values = sum(value for _, value in self._values)
        return values / min(WINDOW_SECONDS, max(self._now() - self._started, 1e-3))

    def settled(self) -> bool:
        """Whether it has seen a whole span of its seconds."""
        return self._now() - self._started >= WINDOW_SECONDS

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
