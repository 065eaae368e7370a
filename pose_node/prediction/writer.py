"""Runs the outputs of a run in a thread of their own."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from pose_node.errors import PoseNodeError
from pose_node.poses import Poses
from pose_node.prediction.frames import RecordedFrame, Recording
from pose_node.prediction.outputs import Output

_WRITE_BEHIND = 4  # frames; large ones have 100 MB each

_Action = Callable[[Output], None]


class ResultWriter:
    """Runs outputs in a thread of their own; leaving it waits until all is written and finished.

    If leaving it by an error, or if an output fails while frames come, unfinished files are
    deleted; if one cannot be finished at the end, the others are. What an output raises is raised
    again by the next call.

    Attributes:
        files: what was written, after leaving.
    """

    def __init__(self, outputs: Sequence[Output]) -> None:
        self.files: list[Path] = []
        self._outputs = outputs
        self._error: Exception | None = None
        self._given_up = False
        self._queue: queue.Queue[_Action | None] = queue.Queue(_WRITE_BEHIND)
        self._thread = threading.Thread(target=self._run, name="result writer", daemon=True)

    def __enter__(self) -> ResultWriter:
        self._thread.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._given_up = error is not None
        while self._thread.is_alive() and self._error is None:
            with contextlib.suppress(queue.Full):
                self._queue.put(None, timeout=0.1)
                break
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    def begin(self, recording: Recording) -> None:
        """The frames of a recording follow."""
        self._put(lambda output: output.begin(recording))

    def write(self, frame: RecordedFrame, poses: Poses) -> None:
        """The people of a frame."""
        self._put(lambda output: output.write(frame, poses))

    def end(self, *, complete: bool) -> None:
        """The recording ends."""
        self._put(lambda output: output.end(complete=complete))

    def _put(self, action: _Action) -> None:
        while self._error is None:
            try:
                self._queue.put(action, timeout=0.1)
            except queue.Full:
                continue
            return
        raise self._error

    def _run(self) -> None:
        failed: Exception | None = RuntimeError("writing results failed unexpectedly, see above")
        unfinished = list(self._outputs)
        try:
            while (action := self._queue.get()) is not None:
                for output in self._outputs:
                    action(output)
            failures: list[PoseNodeError] = []
            while unfinished and not self._given_up:
                try:
                    self.files += unfinished[0].close()
                except PoseNodeError as error:  # the others are finished all the same
                    failures.append(error)
                    unfinished[0].abort()
                del unfinished[0]
            failed = failures[0] if failures else None
        except PoseNodeError as error:
            failed = error
        finally:
            self._error = failed
            for output in unfinished:
                output.abort()
