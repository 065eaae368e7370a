"""What Python's `logging` has to say appears in the log of the node."""

from __future__ import annotations

import logging

from pose_node.ros.python_logging import forwarded_to


class Lines:
    """A logger that remembers."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def info(self, message: str) -> None:
        self.said.append(("info", message))

    def warning(self, message: str) -> None:
        self.said.append(("warning", message))

    def error(self, message: str) -> None:
        self.said.append(("error", message))


def test_levels_are_kept_and_others_are_left_alone() -> None:
    lines, logger = Lines(), logging.getLogger("pose_node.inference.backends")
    before = logging.getLogger("pose_node").level
    with forwarded_to(lines):
        logger.debug("nobody asked")
        logger.info("exporting %s", "a.pt")
        logger.warning("no OpenVINO")
        logger.error("broken")
        logging.getLogger("another.package").error("not ours")
    logger.error("afterwards")
    expected = [("info", "exporting a.pt"), ("warning", "no OpenVINO"), ("error", "broken")]
    assert lines.said == expected
    assert logging.getLogger("pose_node").level == before
