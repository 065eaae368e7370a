"""The thread that owns the device: loads, works, rests, and is given up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from pose_node import Frame, Poses
from pose_node.errors import PoseNodeError
from pose_node.pipeline import Found
from pose_node.ros.device_thread import DeviceThread
from pose_node.ros.mailbox import Mailbox
from tests.conftest import make_frame

SECONDS = 10.0


class Pipeline:
    """What is needed of a `RecoveringPipeline`; remembers the threads that it was called in."""

    def __init__(self, *, batches: bool = True) -> None:
        self.pipeline = SimpleNamespace(engine=SimpleNamespace(runs_batches=batches))
        self.threads = {threading.get_ident()}
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, frames: Sequence[Frame]) -> list[Found]:
        self.threads.add(threading.get_ident())
        self.batches.append(len(frames))
        assert self.gate.wait(SECONDS)
        return [Found(frame, Poses.empty(17), Poses.empty(17)) for frame in frames]

    def upkeep(self) -> None:
        self.threads.add(threading.get_ident())


class Arrival:
    """An image of a camera."""

    def __init__(self, camera: str) -> None:
        self.camera = camera

    def to_frame(self) -> Frame:
        return make_frame(camera=self.camera)


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, for ten seconds at most."""
    pause = threading.Event()
    for _ in range(1000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("waited in vain")


@pytest.fixture
def device() -> Iterator[DeviceThread]:
    made = DeviceThread()
    yield made
    made.rest(SECONDS)
    made.free()


def work(device: DeviceThread, mailbox: Mailbox[Any]) -> threading.Semaphore:
    """Let it work; released for every image that was delivered."""
    delivered = threading.Semaphore(0)
    device.work(
        mailbox,
        deliver=lambda *_: delivered.release(),
        refuse=print,
        fail=print,
        cameras=2,
    )
    return delivered


@pytest.mark.parametrize("batches", [True, False])
def test_one_thread_does_all_of_it(device: DeviceThread, batches: bool) -> None:
    pipeline: Any = device.load(lambda: Pipeline(batches=batches))  # type: ignore[arg-type]
    mailbox: Mailbox[Any] = Mailbox()
    for camera in ("front", "rear"):
        mailbox.put(camera, Arrival(camera))
    delivered = work(device, mailbox)
    assert all(delivered.acquire(timeout=SECONDS) for _ in range(2))
    assert device.rest(SECONDS)
    assert pipeline.batches == ([2] if batches else [1, 1])
    assert len(pipeline.threads) == 1
    assert threading.get_ident() not in pipeline.threads
    assert device.loaded is pipeline
    device.free()
    assert device.loaded is None
    assert (device.hangs, device.is_loading) == (False, False)


def test_what_loading_raises_comes_out(device: DeviceThread) -> None:
    def load() -> Any:
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        device.load(load)
    assert device.loaded is None
    device.free()
    assert device.load(Pipeline) is device.loaded  # type: ignore[arg-type]


def test_loading_is_not_waited_for_when_the_process_shall_end() -> None:
    loading, go_on = threading.Event(), threading.Event()

    def load() -> Any:
        loading.set()
        assert go_on.wait(SECONDS)
        return Pipeline()

    device = DeviceThread(interrupted=loading.is_set)
    with pytest.raises(PoseNodeError, match="told to end"):
        device.load(load)
    assert (device.loaded, device.is_loading) == (None, True)
    device.free()  # does not wait
    assert device.is_loading
    go_on.set()
    until(lambda: not device.is_loading)


def test_a_device_that_hangs_is_left_behind(device: DeviceThread) -> None:
    pipeline: Any = device.load(Pipeline)  # type: ignore[arg-type]
    pipeline.gate.clear()
    mailbox: Mailbox[Any] = Mailbox()
    delivered = work(device, mailbox)
    mailbox.put("front", Arrival("front"))
    until(lambda: bool(pipeline.batches))
    assert not device.rest(0.01)
    assert device.hangs
    device.free()  # does not wait
    assert device.load(Pipeline) is not pipeline  # type: ignore[arg-type]
    pipeline.gate.set()
    assert delivered.acquire(timeout=SECONDS)
    until(lambda: not device.hangs)
