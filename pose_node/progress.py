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
        stream: where to draw, by default stderr, so that results on stdout stay clean.
    """

    def __init__(self, label: str, *, unit: str, stream: TextIO | None = None) -> None:
        self._label = label
        self._unit = unit
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
        if not self._visible or (now - self._last_drawn < _REDRAW_EVERY and done != total):
            return
        self._last_drawn = now
        share = f"{100 * done // total:3d} % " if total else ""
        self._stream.write(f"\r\x1b[K{self._label}: {share}{self._amount(done, total)}")
        self._stream.flush()

    def _amount(self, done: int, total: int | None) -> str:
        if self._unit == "bytes":
            of_total = f" of {total / 1e6:.1f}" if total else ""
            return f"({done / 1e6:.1f}{of_total} MB)"
        return f"({done}{f' of {total}' if total else ''} {self._unit})"
