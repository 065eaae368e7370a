"""The last messages of a topic, found by their stamps. Between two threads; no ROS here."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from typing import Generic, TypeVar

ItemType = TypeVar("ItemType")

_JUMP_NS = 1_000_000_000  # so far back goes a clock that was set, not a message that is late
_DEAD_S = 1.0  # a topic that was silent for so long is not waited for


class StampBuffer(Generic[ItemType]):
    """Keeps the newest items; one thread puts, another one asks for that of a moment.

    Args:
        size: more than that are forgotten, the oldest first.
        bytes_limit: so are those that take more memory together; the newest always stays.
    """

    def __init__(self, size: int, bytes_limit: float = math.inf) -> None:
        self._items: deque[tuple[int, ItemType]] = deque()
        self._sizes: deque[int] = deque()
        self._size, self._bytes_limit = size, bytes_limit
        self._changed = threading.Condition()
        self._arrived = -_DEAD_S
        self._closed = False

    def put(self, stamp_ns: int, item: ItemType, num_bytes: int = 0) -> None:
        """Add an item. One that is much older than the one before says that time began anew.

        Args:
            stamp_ns: its moment, nanoseconds.
            item: it.
            num_bytes: the memory that it takes.
        """
        with self._changed:
            if self._items and stamp_ns < self._items[-1][0] - _JUMP_NS:
                self._items.clear()
                self._sizes.clear()
            self._items.append((stamp_ns, item))
            self._sizes.append(num_bytes)
            while len(self._items) > self._size or (
                len(self._items) > 1 and sum(self._sizes) > self._bytes_limit
            ):
                self._forget_oldest()
            self._arrived = time.monotonic()
            self._changed.notify_all()

    def nearest(self, stamp_ns: int, *, slop_ns: int, patience_s: float = 0.0) -> ItemType | None:
        """The item nearest to a moment, and forget those before it.

        Args:
            stamp_ns: the moment, nanoseconds.
            slop_ns: the largest difference.
            patience_s: wait at most so long, where none is there and one may still come.

        Returns:
            The item; None if there is none.
        """
        deadline = time.monotonic() + patience_s
        with self._changed:
            while True:
                # Of equal ones the newest, as all are where a driver sets no stamps.
                found = min(
                    reversed(self._items), key=lambda pair: abs(pair[0] - stamp_ns), default=None
                )
                if found is not None and abs(found[0] - stamp_ns) <= slop_ns:
                    while self._items[0][0] < found[0]:
                        self._forget_oldest()
                    return found[1]
                now = time.monotonic()
                too_late = any(stamp > stamp_ns + slop_ns for stamp, _ in self._items)
                dead = now - self._arrived > _DEAD_S
                if self._closed or too_late or dead or now >= deadline:
                    return None
                self._changed.wait(deadline - now)

    def offset_ns(self, stamp_ns: int) -> int | None:
        """How much later than a moment the nearest item is; None without any."""
        with self._changed:
            offsets = [stamp - stamp_ns for stamp, _ in self._items]
        return min(offsets, key=abs, default=None)

    def _forget_oldest(self) -> None:
        self._items.popleft()
        self._sizes.popleft()

    def close(self) -> None:
        """Wake who waits, and let nobody wait any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
