"""Frames in their own time: a thread that reads ahead, and a schedule that does not drift."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from pose_node.errors import PoseNodeError

Item = TypeVar("Item")
Raw = TypeVar("Raw")
Delivered = TypeVar("Delivered", covariant=True)

_FRAMES_AHEAD = 3


class Frames(Protocol[Delivered]):
    """Where a `FrameReader` reads; `pose_node.sources.FrameSource` is one."""

    @property
    def kind(self) -> str:
        """ "live": its frames come in their own time; anything else waits to be read."""

    def __iter__(self) -> Iterator[Delivered]:
        """The frames."""

    def close(self) -> None:
        """Give it back."""


class Schedule:
    """Due times at a fixed rate, counted from the first one, so that errors do not add up."""

    def __init__(self, rate: float) -> None:
        self.missed = 0
        self._period = 1 / rate
        self._next: float | None = None

    def next_due(self, now: float) -> float:
        """When the next frame is due, in the seconds of `now`.

        After a delay of more than a period the times missed are counted and left out: frames never
        come in a burst, as they do not from a camera.
        """
        if self._next is None:
            self._next = now
        late = int((now - self._next) / self._period)
        if late > 0:
            self.missed += late
            self._next += late * self._period
        due = self._next
        self._next += self._period
        return due


class FrameReader(Generic[Item]):
    """Reads a source in a thread of its own: files a few frames ahead, live sources the newest.

    Args:
        source: closed at the end.
        prepare: run in that thread for every frame.
        ahead: so many frames of a file are read before they are asked for.
        until: iterating ends when it is set, also while a frame is waited for.
    """

    def __init__(
        self,
        source: Frames[Raw],
        prepare: Callable[[Raw], Item],
        *,
        ahead: int = _FRAMES_AHEAD,
        until: threading.Event | None = None,
    ) -> None:
        self._source: Frames[Any] = source
        self._prepare: Callable[[Any], Item] = prepare
        self._live = source.kind == "live"
        self._stop = threading.Event()
        self._until = until or self._stop
        self._queue: queue.Queue[Item | Exception | None] = queue.Queue(1 if self._live else ahead)
        self._thread = threading.Thread(target=self._read, name="frame reader", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Item]:
        """The frames, until the source ends, `close` is called or `until` is set.

        Raises:
            PoseNodeError: what reading the source raised.
        """
        while not (self._stop.is_set() or self._until.is_set()):
            try:
                item = self._queue.get(timeout=0.1)
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield item

    def close(self) -> None:
        """End the thread and close the source; from any thread, also while another iterates."""
        self._stop.set()
        # A stream that hangs may keep its thread; it ends with the process.
        self._thread.join(timeout=1)

    def _read(self) -> None:
        end: Exception | None = RuntimeError("reading frames failed unexpectedly, see above")
        try:
            for frame in self._source:
                self._put(self._prepare(frame), replace=self._live)
                if self._stop.is_set():
                    break
            end = None
        except PoseNodeError as error:
            end = error
        finally:
            self._source.close()
            self._put(end, replace=False)

    def _put(self, item: Item | Exception | None, *, replace: bool) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0 if replace else 0.1)
            except queue.Full:
                if replace:
                    self._drop_oldest()
            else:
                return

    def _drop_oldest(self) -> None:
        try:
            self._queue.get_nowait()
        except queue.Empty:
            return
