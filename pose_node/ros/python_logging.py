"""What the parts without ROS log by Python's `logging` appears in the log of the node."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Protocol


class Logger(Protocol):
    """What is needed of a node's logger."""

    def info(self, message: str) -> object: ...

    def warning(self, message: str) -> object: ...

    def error(self, message: str) -> object: ...


@contextlib.contextmanager
def forwarded_to(logger: Logger) -> Iterator[None]:
    """Forward what `pose_node` logs, from the level INFO on, as long as the context lasts."""
    package = logging.getLogger("pose_node")
    handler, level, passing = _Forward(logger), package.level, package.propagate
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    package.propagate = False  # it would be printed twice
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
        package.propagate = passing


class _Forward(logging.Handler):
    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        # One line each: rclpy wants the level of a line never to change.
        if record.levelno >= logging.ERROR:
            self._logger.error(message)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(message)
        else:
            self._logger.info(message)
