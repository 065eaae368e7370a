"""The folder that a run writes to: what the run before left there, and what this one leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pose_node.errors import OutputError
from pose_node.prediction.journal import Journal, difference
from pose_node.prediction.outputs import write_summary
from pose_node.prediction.run import Summary


class ResultsFolder:
    """A folder of results; made if it is not there.

    Raises:
        OutputError: it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._summary = path / "run.json"
        self._journal = path / ".journal.jsonl"
        try:
            path.mkdir(parents=True, exist_ok=True)
            before = json.loads(self._summary.read_bytes()) if self._summary.exists() else None
        except (OSError, ValueError) as error:
            raise OutputError(f"cannot use {path}: {error}") from error
        if before is not None and not isinstance(before, dict):
            raise OutputError(f"cannot use {path}: its {self._summary.name} is of something else")
        self._before: dict[str, Any] | None = before

    def check_unused(self) -> None:
        """See that nothing of a run before is there.

        Raises:
            OutputError: it holds results.
        """
        if self._before is not None or self._journal.exists():
            raise OutputError(
                f"{self.path} holds the results of a run before; --resume continues it, --force "
                "replaces it, --output DIR writes elsewhere"
            )

    def complete_run(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """The summary of the run before if it is complete; None if there is work to do.

        Args:
            request: what is asked for now, by names of settings.

        Raises:
            OutputError: the run before is complete, but was asked for something else.
        """
        if self._before is None or not self._before.get("complete"):
            return None
        now = json.loads(json.dumps(request))
        others = difference(self._before.get("settings", {}), now)
        if others:
            raise OutputError(
                f"{self.path} holds a complete run of other settings, sources or outputs "
                f"({others}); --force runs it anew, --output DIR writes elsewhere"
            )
        self._journal.unlink(missing_ok=True)  # of a run that was killed when all was written
        return self._before

    def open_journal(
        self, settings: dict[str, Any], num_keypoints: int, *, resume: bool
    ) -> Journal:
        """The journal; see there."""
        return Journal(self._journal, settings, num_keypoints=num_keypoints, resume=resume)

    def begin(self) -> None:
        """From now on there is an unfinished run."""
        self._summary.unlink(missing_ok=True)

    def write_summary(self, summary: Summary, facts: Mapping[str, Any]) -> None:
        """Say what the run was and what became of it.

        Args:
            summary: what became of it.
            facts: what else there is to say.

        Raises:
            OutputError: it cannot be written.
        """
        content = {
            "complete": summary.complete,
            "frames": summary.frames,
            "frames_recalled": summary.recalled,
            "people": summary.people,
            "seconds": round(summary.seconds, 3),
            "failures": [
                {
                    "source": failure.source,
                    "topic": failure.topic,
                    "frame": failure.index,
                    "reason": failure.reason,
                }
                for failure in summary.failures
            ],
            "files": [os.path.relpath(path, self.path) for path in summary.files],
            **facts,
        }
        write_summary(self._summary, content)
