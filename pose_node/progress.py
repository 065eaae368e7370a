"""One line on the terminal that shows how far long work has come."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

_REDRAW_EVERY = 0.1  # seconds


class ProgressLine:
    """A line that is redrawn in place and taken away at the end; silent without a terminal.

    Args:
        label: what is being done.
        unit: "bytes" shows megabytes; anything else is a count of that.
        rate: also show how many a second there are and, if the total is known, the time left.
        stream: where to draw, by default stderr, so that results on stdout stay clean.
    """

    def __init__(
        self, label: str, *, unit: str, rate: bool = False, stream: TextIO | None = None
    ) -> None:
        self._label = label
        self._unit = unit
        self._rate = rate
        self._first: tuple[float, int] | None = None
        self._stream = sys.stderr if stream is None else stream
        self._visible = self._stream.isatty()
        self._last_drawn = 0.0

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._visible and self._last_drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def __call__(self, done: int, total: int | None) -> None:
        """Show that `done` of `total` are done; the total may be unknown."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
        if not self._visible or (now - self._last_drawn < _REDRAW_EVERY and done != total):
            return
        self._last_drawn = now
        share = f"{100 * done // total:3d} % " if total else ""
        speed = self._speed(now, done, total)
        self._stream.write(f"\r\x1b[K{self._label}: {share}{self._amount(done, total)}{speed}")
        self._stream.flush()

    def _amount(self, done: int, total: int | None) -> str:
        if self._unit == "bytes":
            of_total = f" of {total / 1e6:.1f}" if total else ""
            return f"({done / 1e6:.1f}{of_total} MB)"
        return f"({done}{f' of {total}' if total else ''} {self._unit})"

    def _speed(self, now: float, done: int, total: int | None) -> str:
        started, done_before = self._first or (now, done)
        if not self._rate or now <= started or done <= done_before:
            return ""
        per_second = (done - done_before) / (now - started)
        if total is None:
            return f", {per_second:.1f}/s"
        seconds = round(max(0, total - done) / per_second)
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
        return f", {per_second:.1f}/s, {left} left"
