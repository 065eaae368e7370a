"""Lets a message through at most once in a while, for each kind of message."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable


class Throttle:
    """One message of each kind per period; from any thread.

    Args:
        seconds: the period.
        now: the clock, in seconds.
    """

    def __init__(self, *, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._now = now
        self._last: dict[Hashable, float] = {}
        self._lock = threading.Lock()

    def lets_through(self, *kind: Hashable) -> bool:
        """Whether a message of this kind may pass now."""
        with self._lock:
            now = self._now()
            if kind in self._last and now - self._last[kind] < self._seconds:
                return False
            self._last[kind] = now
            return True
