"""The worker: newest images in, people out, and no error ends it."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from pose_node import Frame, Poses
from pose_node.errors import ImageError
from pose_node.pipeline import Found
from pose_node.ros.mailbox import Mailbox
from pose_node.ros.worker import Worker
from tests.conftest import make_frame

SECONDS = 10.0


@dataclass
class Arrival:
    """An image, or the error that decoding it raises."""

    camera: str = ""
    value: int = 0
    error: Exception | None = None
    meeting: threading.Barrier | None = None

    def to_frame(self) -> Frame:
        if self.meeting is not None:
            self.meeting.wait(SECONDS)
        if self.error is not None:
            raise self.error
        return make_frame(camera=self.camera, value=self.value)


@dataclass
class Desk:
    """A worker with its mailbox, and everything that it hands on."""

    thread: ThreadPoolExecutor
    mailbox: Mailbox[Arrival] = field(default_factory=Mailbox)
    delivered: queue.Queue[tuple[Arrival, Frame, Poses, float]] = field(default_factory=queue.Queue)
    refused: queue.Queue[tuple[Arrival, ImageError]] = field(default_factory=queue.Queue)
    failed: queue.Queue[tuple[Arrival | None, Exception]] = field(default_factory=queue.Queue)
    batches: list[list[str]] = field(default_factory=list)
    find: Callable[[Frame], None] = lambda frame: None
    at_delivery: Callable[[Arrival], None] = lambda arrival: None

    def start(self, **options: Any) -> None:
        self.worker = Worker(
            self.mailbox,
            self.pipeline,
            deliver=self.deliver,
            refuse=lambda arrival, error: self.refused.put((arrival, error)),
            fail=lambda arrival, error: self.failed.put((arrival, error)),
            thread=self.thread,
            **options,
        )

    def pipeline(self, frames: Sequence[Frame]) -> list[Found]:
        self.batches.append([frame.camera for frame in frames])
        for frame in frames:
            self.find(frame)
        found = [Poses.empty(int(frame.image[0, 0, 0]) + 1) for frame in frames]
        return [Found(frame, poses, poses) for frame, poses in zip(frames, found, strict=True)]

    def deliver(self, arrival: Arrival, found: Found, turn: float) -> None:
        self.at_delivery(arrival)
        self.delivered.put((arrival, found.frame, found.poses, turn))

    def next_value(self) -> int:
        return self.delivered.get(timeout=SECONDS)[0].value


@pytest.fixture
def desk() -> Iterator[Desk]:
    with ThreadPoolExecutor(1) as thread:
        made = Desk(thread)
        yield made
        made.worker.stop()


def fail_on(value: int, error: Exception) -> Callable[[Any], None]:
    """Raise for images of this grey value, or arrivals of it."""

    def check(item: Any) -> None:
        found = item.image[0, 0, 0] if isinstance(item, Frame) else item.value
        if found == value:
            raise error

    return check


def test_delivers_each_image_with_its_own_people(desk: Desk) -> None:
    desk.mailbox.put("front", Arrival("front", 3))
    desk.mailbox.put("rear", Arrival("rear", 5))
    desk.start()
    for _ in range(2):
        arrival, frame, poses, turn = desk.delivered.get(timeout=SECONDS)
        assert frame.camera == arrival.camera
        assert poses.num_keypoints == arrival.value + 1
        assert turn > 0
    assert desk.batches == [["front", "rear"]]


def test_an_image_that_cannot_be_decoded_is_refused_alone(desk: Desk) -> None:
    broken = Arrival("front", error=ImageError("cut off", kind="broken compressed image"))
    desk.mailbox.put("front", broken)
    desk.mailbox.put("rear", Arrival("rear", 7))
    desk.start()
    arrival, error = desk.refused.get(timeout=SECONDS)
    assert arrival is broken
    assert str(error) == "cut off"
    assert desk.next_value() == 7
    assert desk.batches == [["rear"]]
    assert desk.failed.empty()


def test_whatever_decoding_raises_the_next_image_gets_its_chance(desk: Desk) -> None:
    error = MemoryError("no memory for 8 gigabytes")
    arrival = Arrival(error=error)
    desk.mailbox.put("", arrival)
    desk.start()
    assert desk.failed.get(timeout=SECONDS) == (arrival, error)
    desk.mailbox.put("", Arrival(value=2))
    assert desk.next_value() == 2


def test_whatever_the_pipeline_raises_the_next_image_gets_its_chance(desk: Desk) -> None:
    error = RuntimeError("CUDA error")
    desk.find = fail_on(1, error)
    arrival = Arrival(value=1)
    desk.mailbox.put("", arrival)
    desk.start()
    assert desk.failed.get(timeout=SECONDS) == (arrival, error)
    desk.mailbox.put("", Arrival(value=2))
    assert desk.next_value() == 2
    assert desk.delivered.empty()


def test_an_image_that_spoils_the_batch_does_not_disturb_the_others(desk: Desk) -> None:
    error = RuntimeError("this image")
    desk.find = fail_on(1, error)
    for camera, value in (("left", 4), ("middle", 1), ("right", 6)):
        desk.mailbox.put(camera, Arrival(camera, value))
    desk.start()
    assert [desk.next_value(), desk.next_value()] == [4, 6]
    assert desk.batches == [["left", "middle", "right"], ["left"], ["middle"], ["right"]]
    assert desk.failed.get(timeout=SECONDS) == (None, error)
    assert desk.failed.get(timeout=SECONDS) == (Arrival("middle", 1), error)


def test_whatever_delivery_raises_the_other_images_are_delivered(desk: Desk) -> None:
    error = RuntimeError("cannot publish")
    desk.at_delivery = fail_on(1, error)
    desk.mailbox.put("front", Arrival("front", 1))
    desk.mailbox.put("rear", Arrival("rear", 2))
    desk.start()
    assert desk.failed.get(timeout=SECONDS) == (Arrival("front", 1), error)
    assert desk.next_value() == 2
    assert desk.batches == [["front", "rear"]]


def test_stop_finishes_the_image_at_hand_and_frees_the_thread(desk: Desk) -> None:
    working, go_on = threading.Event(), threading.Event()

    def find(_: Frame) -> None:
        working.set()
        go_on.wait(SECONDS)

    desk.find = find
    desk.start()
    desk.mailbox.put("", Arrival(value=1))
    assert working.wait(SECONDS)
    desk.mailbox.put("", Arrival(value=2))
    desk.mailbox.close()
    go_on.set()
    desk.worker.stop()
    assert desk.next_value() == 1
    assert desk.delivered.empty()
    assert desk.thread.submit(lambda: "free").result(timeout=SECONDS) == "free"


def test_a_slow_device_gets_more_time_than_one_that_hangs(desk: Desk) -> None:
    working, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def find(frame: Frame) -> None:
        working.release()
        assert go_on.acquire(timeout=SECONDS)

    desk.find = find
    desk.start()
    desk.mailbox.put("", Arrival(value=1))
    assert working.acquire(timeout=SECONDS)
    threading.Timer(0.1, go_on.release).start()  # it takes a tenth of a second
    assert desk.next_value() == 1
    desk.mailbox.put("", Arrival(value=2))
    assert working.acquire(timeout=SECONDS)
    started = time.monotonic()
    assert not desk.worker.stop(0.01)
    assert time.monotonic() - started >= 0.5
    assert not desk.worker.ended
    go_on.release()
    assert desk.worker.stop()
    assert desk.worker.ended


def test_loading_the_network_anew_may_take_its_time(desk: Desk) -> None:
    loading, go_on = threading.Event(), threading.Event()

    def load() -> None:
        loading.set()
        assert go_on.wait(SECONDS)

    desk.start(upkeep=load)
    assert loading.wait(SECONDS)
    threading.Timer(0.2, go_on.set).start()
    assert desk.worker.stop(0.01)


def test_an_interpreter_ends_though_nobody_stopped_the_worker() -> None:
    program = """if True:
        from concurrent.futures import ThreadPoolExecutor
        from pose_node.ros.mailbox import Mailbox
        from pose_node.ros.worker import Worker

        Worker(
            Mailbox(),
            lambda frames: [],
            deliver=print,
            refuse=print,
            fail=print,
            thread=ThreadPoolExecutor(1),
        )
    """
    done = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_images_of_several_cameras_are_decoded_at_the_same_time(desk: Desk) -> None:
    meeting = threading.Barrier(2)
    for camera in ("front", "rear"):
        desk.mailbox.put(camera, Arrival(camera, meeting=meeting))
    desk.start(cameras=2)
    assert {desk.delivered.get(timeout=SECONDS)[0].camera for _ in range(2)} == {"front", "rear"}
    assert desk.batches == [["front", "rear"]]


def test_images_one_after_the_other(desk: Desk) -> None:
    """Where batches are no faster, nobody waits for the people of another camera."""
    for camera in ("front", "rear"):
        desk.mailbox.put(camera, Arrival(camera))
    desk.start(most=1, cameras=2)
    assert [desk.delivered.get(timeout=SECONDS)[0].camera for _ in range(2)] == ["front", "rear"]
    assert desk.batches == [["front"], ["rear"]]


def test_the_window_is_asked_for_each_time(desk: Desk) -> None:
    windows = iter((0.0, 1e6))
    desk.mailbox.put("front", Arrival("front"))
    desk.start(cameras=2, window=lambda: next(windows, 0.0))
    assert desk.delivered.get(timeout=SECONDS)[0].camera == "front"
    desk.mailbox.put("front", Arrival("front"))
    desk.mailbox.put("rear", Arrival("rear"))
    desk.delivered.get(timeout=SECONDS)
    assert desk.batches == [["front"], ["front", "rear"]]
