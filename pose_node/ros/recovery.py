"""Keeps the pipeline at work on a device that fails: smaller batches, a new start. No ROS here.

Too little memory for several images: fewer at once, from then on. Too little for one, or a device
that failed: the pipeline is given up, its memory freed, and after a pause it is loaded anew; the
pauses grow while that does not help. Everything else is a fault of an image and passes through.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from pose_node.errors import DeviceError
from pose_node.inference.device_faults import DeviceFault, find_device_fault, free_device_memory
from pose_node.pipeline import Found, PosePipeline
from pose_node.poses import Frame

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds from a fault to the next attempt


class Logger(Protocol):
    """What a logger of ROS has, as far as it is used here."""

    def info(self, message: str) -> object:
        """Say what is well again."""

    def warning(self, message: str) -> object:
        """Say what works worse."""

    def error(self, message: str) -> object:
        """Say what does not work."""


class Pauses:
    """Growing pauses between attempts.

    Args:
        now: the clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._due = 0.0
        self.attempts = 0

    def begin(self) -> float:
        """An attempt failed. Returns the seconds until the next one."""
        pause = min(FIRST_PAUSE * 2.0**self.attempts, LONGEST_PAUSE)
        self.attempts = min(self.attempts + 1, 30)
        self._due = self._now() + pause
        return pause

    def left(self) -> float:
        """Seconds until the next attempt, 0 when it is time."""
        return max(self._due - self._now(), 0.0)

    def reset(self) -> None:
        """All is well: the next pause is a short one again."""
        self.attempts = 0


class RecoveringPipeline:
    """A pipeline that outlives the faults of its device.

    Everything but the attributes belongs to the thread that owns the device.

    Args:
        load: makes the pipeline; now, and again after each fault.
        logger: told what happens.
        adopt: called with each pipeline when it is in use: settings may have changed meanwhile.
        first_id: of the first track, see `PosePipeline`.
        now: the clock, in seconds.

    Attributes:
        pipeline: the one at work; None while the device is broken.
        fault: why there is none, and what to do; "" while there is one.
        batch_limit: most images at once that the device had memory for; None while it never failed.

    Raises:
        Exception: whatever `load` raises at first.
    """

    def __init__(
        self,
        load: Callable[[], PosePipeline],
        *,
        logger: Logger,
        adopt: Callable[[PosePipeline], None] = lambda pipeline: None,
        first_id: int = 1,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._logger = logger
        self._adopt = adopt
        self._pauses = Pauses(now)
        self._first_id = first_id
        self.pipeline: PosePipeline | None = None
        self.fault = ""
        self.batch_limit: int | None = None
        self._start()

    def __call__(self, frames: Sequence[Frame]) -> list[Found]:
        """Find the people in each frame; see `PosePipeline`.

        Raises:
            DeviceError: the device is broken.
            Exception: whatever else the pipeline raises.
        """
        found: list[Found] = []
        freed = False
        while len(found) < len(frames):
            if self.pipeline is None:
                raise DeviceError(self.fault)
            left = len(frames) - len(found)
            size = min(left, self.batch_limit or left)
            fault = None
            try:
                found += self.pipeline(frames[len(found) : len(found) + size])
            except Exception as error:
                fault = find_device_fault(error)
                if fault is None:
                    raise
            # Not in the handler, where the error still holds what has to be freed.
            if fault is None:
                continue
            if fault.out_of_memory and size > 1:
                self._take_fewer((size + 1) // 2, fault)
            elif fault.out_of_memory and not freed:
                freed = True
                free_device_memory()
            else:
                self._give_up(fault)
        self._pauses.reset()
        return found

    @property
    def next_id(self) -> int:
        """An id that no track has had."""
        return self.pipeline.next_id if self.pipeline is not None else self._first_id

    def forget(self) -> None:
        """Forget everybody who was followed."""
        if self.pipeline is not None:
            self.pipeline.forget()

    def upkeep(self) -> float | None:
        """Load the pipeline anew if it is time for that.

        Returns:
            Seconds until this should be called again; None if it need not be.
        """
        if self.pipeline is not None:
            return None
        if left := self._pauses.left():
            return left
        try:
            self._start()
        except Exception as error:  # noqa: BLE001 - whatever it is, the next attempt may succeed
            fault = find_device_fault(error)
            reason = fault.reason if fault else str(error) or type(error).__name__
            self.pipeline = None  # also where only adopting it failed
        else:
            self._logger.info("the device works again")
            return None
        self._fail(reason)
        return self._pauses.left()

    def _start(self) -> None:
        pipeline = self._load()
        pipeline.first_id = self._first_id
        self.batch_limit = None
        self.pipeline = pipeline
        self.fault = ""
        self._adopt(pipeline)

    def _take_fewer(self, size: int, fault: DeviceFault) -> None:
        self.batch_limit = size
        if self.pipeline is not None:
            self.pipeline.engine.release_graphs()  # those of larger batches hold most of the memory
        free_device_memory()
        self._logger.warning(f"from now on at most {size} images at once: {fault.reason}")

    def _give_up(self, fault: DeviceFault) -> None:
        assert self.pipeline is not None
        self._first_id = self.pipeline.next_id  # ids are not used again, whatever happens
        self._fail(fault.reason)
        self.pipeline = None
        free_device_memory()

    def _fail(self, reason: str) -> None:
        self.fault = reason
        pause = self._pauses.begin()
        self._logger.error(f"no people are found until the network is loaded anew: {reason}")
        self._logger.info(f"next attempt in {pause:g} s")
