"""A mailbox that keeps only the newest item of each camera.

The ROS callbacks put, one worker takes. Whoever is slower than the cameras sees the present, not a
growing past.
"""

from __future__ import annotations

import itertools
import threading
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """The newest item of each camera, handed from any number of threads to one."""

    def __init__(self) -> None:
        self._newest: dict[str, Item] = {}
        self._closed = False
        self._changed = threading.Condition()

    def put(self, camera: str, item: Item) -> bool:
        """Leave an item; the one that nobody took yet is dropped.

        Returns:
            Whether an older item of this camera was replaced.
        """
        with self._changed:
            if self._closed:
                return False
            replaced = camera in self._newest
            self._newest[camera] = item
            self._changed.notify()
        return replaced

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        with self._changed:
            return self._closed

    def take(
        self,
        seconds: float | None = None,
        *,
        most: int | None = None,
        window: float = 0.0,
        cameras: int = 1,
    ) -> dict[str, Item]:
        """Wait until there is something, then take the newest items.

        Args:
            seconds: longest time to wait for the first; None for any.
            most: of so many cameras at most, those first that have waited longest; None for all.
            window: seconds to wait for the other cameras, once there is something.
            cameras: how many there are; with all of them, there is nothing to wait for.

        Returns:
            Items by camera; empty when the time is up or the mailbox is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._closed, seconds)
            if window > 0 and self._newest:
                enough = cameras if most is None else min(cameras, most)
                self._changed.wait_for(lambda: len(self._newest) >= enough or self._closed, window)
            # A replaced item keeps its place: the first one's camera has waited longest.
            taken = dict(itertools.islice(self._newest.items(), most))
            for camera in taken:
                del self._newest[camera]
        return taken

    def close(self) -> None:
        """Drop what is left and wake the taker; later items are dropped too."""
        with self._changed:
            self._closed = True
            self._newest = {}
            self._changed.notify_all()
