"""Joins what different topics say of one image, by its stamp."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_SILENT = 5  # so many images without a part in a row, and it is not waited for any more


class StampJoiner:
    """Collects the parts of each image until all are there that usually come.

    A part is expected from when it first comes until it stays away for a while, so a topic that
    nobody publishes delays nothing. What was passed over or comes too late is dropped.

    Args:
        needed: the part without which the others are worth nothing.
        kept: so many images are waited for at most; memory is bounded by it. A node that takes its
            time answers many images after the one that it was given.
    """

    def __init__(self, needed: str, *, kept: int = 32) -> None:
        self._needed = needed
        self._kept = kept
        self._waiting: dict[int, dict[str, Any]] = {}
        self._silence: dict[str, int] = {needed: 0}
        self._newest_given: int | None = None

    def put(self, stamp_ns: int, part: str, value: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        """Add a part; the images that need no longer wait, oldest first.

        A stamp far before the newest one says that time began anew, as when a bag starts again.
        """
        if self._newest_given is not None and stamp_ns < self._newest_given - 1_000_000_000:
            self._waiting.clear()
            self._newest_given = None
        if self._newest_given is not None and stamp_ns <= self._newest_given:
            return
        self._silence[part] = 0
        self._waiting.setdefault(stamp_ns, {})[part] = value
        complete = self._expected() <= self._waiting[stamp_ns].keys()
        while self._waiting and (complete or len(self._waiting) > self._kept):
            oldest = min(self._waiting)
            if complete and oldest > stamp_ns:
                return
            parts = self._waiting.pop(oldest)
            if self._needed in parts:
                self._count_silence(parts)
                self._newest_given = oldest
                yield oldest, parts

    def _expected(self) -> set[str]:
        return {part for part, images in self._silence.items() if images < _SILENT}

    def _count_silence(self, parts: dict[str, Any]) -> None:
        for part in self._silence:
            if part not in parts and part != self._needed:
                self._silence[part] += 1
