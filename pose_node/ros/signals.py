"""What Ctrl-C and SIGTERM do to a process, in each part of its life. Standard library only."""

from __future__ import annotations

import os
import signal

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def end_at_once(code: int) -> None:
    """From now on a signal ends the process without a word, with this exit code.

    For the time before there is anything to clean up. By Python's own handlers Ctrl-C would print
    wherever the imports stand, and supervisors would take SIGTERM for a fault.
    """
    for number in SIGNALS:
        # Not SystemExit, which could come up anywhere in the imports and be caught there.
        signal.signal(number, lambda _number, _frame: os._exit(code))


def note_signals() -> list[int]:
    """From now on a signal is only noted; the same one again ends the process at once.

    A handler runs between any two instructions and must take no lock. rclpy's own handlers end the
    context, and with it whatever is just being made or published: an end in the middle of the start
    would look like a fault.

    Returns:
        The signals that came, a list that grows.
    """
    signalled: list[int] = []

    def note(number: int, _frame: object) -> None:
        signalled.append(number)
        signal.signal(number, signal.SIG_DFL)

    for number in SIGNALS:
        signal.signal(number, note)
    return signalled


def interrupt() -> None:
    """From now on both signals raise KeyboardInterrupt, as Ctrl-C does by default."""
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler)
