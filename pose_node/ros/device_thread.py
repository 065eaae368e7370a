"""The one thread that owns the device: it loads the network, and works on images. No ROS here.

torch keeps a pool of threads for every thread that ever computed, and with more of them than
processors each operator takes longer. So all that computes does so in one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from pose_node.errors import PoseNodeError
from pose_node.process_settings import release_memory
from pose_node.ros.mailbox import Mailbox
from pose_node.ros.recovery import RecoveringPipeline
from pose_node.ros.worker import Worker


class DeviceThread:
    """Loads a pipeline, lets it work, and gives it up; in this order, and any number of times.

    Args:
        interrupted: whether the process shall end, so that loading is not waited for any more.

    Attributes:
        loaded: the pipeline that was loaded; None before and when it was given up.
    """

    def __init__(self, interrupted: Callable[[], bool] = lambda: False) -> None:
        self.loaded: RecoveringPipeline | None = None
        self._interrupted = interrupted
        self._thread: ThreadPoolExecutor | None = None
        self._loading: Future[RecoveringPipeline] | None = None
        self._worker: Worker[Any] | None = None
        self._hanging: list[Worker[Any]] = []  # those that did not end when told to

    def load(self, make: Callable[[], RecoveringPipeline]) -> RecoveringPipeline:
        """Make the pipeline, and wait for that.

        Raises:
            PoseNodeError: it is not waited for, since the process shall end.
            Exception: whatever `make` raises.
        """
        self._thread = ThreadPoolExecutor(1, "pose worker")
        self._loading = self._thread.submit(make)
        while not wait([self._loading], timeout=0.1).done:
            if self._interrupted():
                raise PoseNodeError("the process was told to end while the network was loaded")
        self.loaded = self._loading.result()
        return self.loaded

    def work(self, mailbox: Mailbox[Any], **options: Any) -> None:
        """Begin to work on the images of a mailbox; options are those of `Worker`."""
        assert self._thread is not None
        assert self.loaded is not None
        inner = self.loaded.pipeline
        self._worker = Worker(
            mailbox,
            self.loaded,
            thread=self._thread,
            upkeep=self.loaded.upkeep,
            most=None if inner is None or inner.engine.runs_batches else 1,
            **options,
        )

    def rest(self, seconds: float) -> bool:
        """Finish the images at hand and end the work.

        Args:
            seconds: see `Worker.stop`.

        Returns:
            Whether it has ended; a device that hangs keeps the thread.
        """
        worker, self._worker = self._worker, None
        if worker is None or worker.stop(seconds):
            return True
        self._hanging.append(worker)
        return False

    def free(self) -> None:
        """Give the pipeline and its memory up, after `rest`."""
        self.loaded = None
        if self._thread is not None:
            self._thread.shutdown(wait=not (self.hangs or self.is_loading))
            release_memory()
        self._thread = None

    @property
    def hangs(self) -> bool:
        """Whether the device keeps a thread, so that the process cannot end cleanly."""
        self._hanging = [worker for worker in self._hanging if not worker.ended]
        return bool(self._hanging)

    @property
    def is_loading(self) -> bool:
        """Whether the thread still loads a pipeline."""
        return self._loading is not None and not self._loading.done()
