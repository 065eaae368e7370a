"""Ending long work in good order."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def stop_on_signals(stop: threading.Event, *signals: int) -> Iterator[None]:
    """The first of these signals sets `stop`; the second one is Python's own again."""
    before = {number: signal.getsignal(number) for number in signals}

    def handle(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, signal.default_int_handler)

    for number in signals:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
