"""The one thread that owns the device: newest images in, people out. No ROS here."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from pose_node.errors import DeviceError, ImageError
from pose_node.pipeline import Found
from pose_node.poses import Frame
from pose_node.ros.mailbox import Mailbox

_MOST_DECODERS = 4
"""Threads that decode images; more cameras take turns."""

_LOADING_SECONDS = 60.0

_LONGEST_TURN = 1.0
"""Seconds that a turn waits for images, and the end of the interpreter for a turn."""


class Arrival(Protocol):
    """An image that was checked and stored, and has not been decoded yet."""

    @property
    def camera(self) -> str:
        """Key of its camera."""

    def to_frame(self) -> Frame:
        """Decode it. Raises ImageError."""


ArrivalType = TypeVar("ArrivalType", bound=Arrival)


class Worker(Generic[ArrivalType]):
    """Takes the newest images from a mailbox, runs the pipeline on them, hands on the people.

    Args:
        mailbox: where the images come from; closing it ends the work.
        pipeline: frames to people.
        deliver: called with every image, what was found in it, and when its turn came
            (`time.monotonic`).
        refuse: called with every image that cannot be decoded, or comes while the device is broken.
        thread: runs the work: the one that loaded the network, see `PoseNode`.
        fail: called with every other error, of decoding, the pipeline or `deliver`, and the image
            that it came from; None where several images failed together, and are tried one by one.
        upkeep: called before every wait for images; returns in how many seconds it wants to be
            called again even though none come.
        most: images that are worked on together, where that is faster than one after the other;
            None for those of all cameras.
        window: called before every wait; for how many seconds to wait for the other cameras.
        cameras: how many there are.
    """

    def __init__(
        self,
        mailbox: Mailbox[ArrivalType],
        pipeline: Callable[[Sequence[Frame]], Sequence[Found]],
        *,
        deliver: Callable[[ArrivalType, Found, float], None],
        refuse: Callable[[ArrivalType, ImageError | DeviceError], None],
        fail: Callable[[ArrivalType | None, Exception], None],
        thread: ThreadPoolExecutor,
        upkeep: Callable[[], float | None] = lambda: None,
        most: int | None = None,
        window: Callable[[], float] = lambda: 0.0,
        cameras: int = 1,
    ) -> None:
        self._mailbox = mailbox
        self._pipeline = pipeline
        self._deliver = deliver
        self._refuse = refuse
        self._fail = fail
        self._upkeep = upkeep
        self._most = most
        self._window = window
        self._cameras = cameras
        self._thread = thread
        # Compressed images of several cameras are decoded at the same time.
        self._decoders = ThreadPoolExecutor(min(cameras, _MOST_DECODERS), "decode")
        self._ended = threading.Event()
        self._in_upkeep = False
        self._times: deque[float] = deque(maxlen=5)  # seconds of the latest turns
        self._thread.submit(self._turn)

    def stop(self, seconds: float | None = None) -> bool:
        """Finish the images at hand and end the work; the thread stays.

        Args:
            seconds: wait at most so long, or as long as a slow device may take: five times as long
                as for its latest images, a minute for loading the network anew. None for ever.

        Returns:
            Whether it has ended. A device that hangs lets it go on for ever.
        """
        self._mailbox.close()
        if seconds is not None:
            usual = max(self._times, default=0.0)
            seconds = max(seconds, 5 * usual, _LOADING_SECONDS if self._in_upkeep else 0)
        return self._ended.wait(seconds)

    @property
    def ended(self) -> bool:
        """Whether the work has ended."""
        return self._ended.is_set()

    def _turn(self) -> None:
        try:
            self._work()
        finally:
            if self._mailbox.closed or not self._ask_for_another():
                self._decoders.shutdown()
                self._ended.set()

    def _ask_for_another(self) -> bool:
        """One call that stayed in the thread would keep the interpreter from ending for ever.

        At its end it waits for such threads, and tells only those who ask for more.
        """
        try:
            self._thread.submit(self._turn)
        except RuntimeError:
            return False
        return True

    def _work(self) -> None:
        self._in_upkeep = True
        wait = self._upkeep()
        self._in_upkeep = False
        arrivals = self._mailbox.take(
            _LONGEST_TURN if wait is None else min(wait, _LONGEST_TURN),
            most=self._most,
            window=self._window(),
            cameras=self._cameras,
        )
        if not arrivals:
            return
        turn = time.monotonic()
        apply = self._decoders.map if len(arrivals) > 1 else map
        decoded = [pair for pair in apply(self._decode, arrivals.values()) if pair]
        if decoded and not self._run(decoded, turn) and len(decoded) > 1:
            # One image may have spoilt the batch: the others shall not suffer.
            for pair in decoded:
                self._run([pair], turn)
        self._times.append(time.monotonic() - turn)

    def _decode(self, arrival: ArrivalType) -> tuple[ArrivalType, Frame] | None:
        try:
            return arrival, arrival.to_frame()
        except ImageError as error:
            self._refuse(arrival, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next image gets its chance
            self._fail(arrival, error)
        return None

    def _run(self, decoded: Sequence[tuple[ArrivalType, Frame]], turn: float) -> bool:
        """Find and deliver the people. Returns whether it makes no sense to try again."""
        try:
            results = self._pipeline([frame for _, frame in decoded])
        except DeviceError as error:  # that is not for the images
            for arrival, _ in decoded:
                self._refuse(arrival, error)
            return True
        except Exception as error:  # noqa: BLE001 - whatever it is, the next image gets its chance
            self._fail(decoded[0][0] if len(decoded) == 1 else None, error)
            return False
        for (arrival, _), found in zip(decoded, results, strict=True):
            try:
                self._deliver(arrival, found, turn)
            except Exception as error:  # noqa: BLE001 - likewise
                self._fail(arrival, error)
        return True
