"""A device that fails, by plan: fewer images at once, a new start, and never an end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pose_node import Frame, Poses
from pose_node.errors import CheckpointError, DeviceError
from pose_node.pipeline import Found
from pose_node.ros import recovery
from pose_node.ros.recovery import Pauses, RecoveringPipeline
from tests.conftest import make_frame

LOST = "CUDA error: device-side assert triggered"


class Device:
    """A device with room for so many images, a clock, a log, and errors by plan."""

    def __init__(self, room: int = 100) -> None:
        self.room = room
        self.time = 0.0
        self.load_errors: list[Exception] = []
        self.call_errors: list[Exception] = []
        self.batches: list[int] = []
        self.loaded: list[FakePipeline] = []
        self.log: list[tuple[str, str]] = []

    def load(self) -> Any:
        if self.load_errors:
            raise self.load_errors.pop(0)
        self.loaded.append(FakePipeline(self))
        return self.loaded[-1]

    def info(self, message: str) -> None:
        self.log.append(("info", message))

    def warning(self, message: str) -> None:
        self.log.append(("warning", message))

    def error(self, message: str) -> None:
        self.log.append(("error", message))

    def make(self, **named: Any) -> RecoveringPipeline:
        return RecoveringPipeline(self.load, logger=self, now=lambda: self.time, **named)


class FakePipeline:
    def __init__(self, device: Device) -> None:
        self._device = device
        self.first_id = 1
        self.used = 0
        self.forgotten = 0
        self.released = 0
        self.engine = self

    @property
    def next_id(self) -> int:
        return self.first_id + self.used

    def forget(self) -> None:
        self.forgotten += 1

    def release_graphs(self) -> None:
        self.released += 1

    def __call__(self, frames: Sequence[Frame]) -> list[Found]:
        self._device.batches.append(len(frames))
        if self._device.call_errors:
            raise self._device.call_errors.pop(0)
        if len(frames) > self._device.room:
            raise RuntimeError("CUDA out of memory")
        self.used += 1
        return [Found(frame, Poses.empty(17), Poses.empty(17)) for frame in frames]


@pytest.fixture(autouse=True)
def freed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One item each time that memory was freed."""
    calls: list[int] = []
    monkeypatch.setattr(recovery, "free_device_memory", lambda: calls.append(1))
    return calls


def frames(count: int) -> list[Frame]:
    return [make_frame(camera=f"camera{number}", width=2, height=2) for number in range(count)]


def answered(pipeline: RecoveringPipeline, count: int) -> bool:
    """Whether each frame is answered, in order."""
    given = frames(count)
    found = pipeline(given)
    return [id(item.frame) for item in found] == [id(frame) for frame in given]


@pytest.mark.parametrize(
    ("room", "batches", "limit"),
    [(9, [5], None), (4, [5, 3, 2], 3), (2, [5, 3, 2, 2, 1], 2), (1, [5, 3, 2, 1, 1, 1, 1, 1], 1)],
)
def test_too_little_memory_means_fewer_at_once(
    room: int, batches: list[int], limit: int | None, freed: list[int]
) -> None:
    device = Device(room)
    pipeline = device.make()
    assert answered(pipeline, 5)
    assert device.batches == batches
    assert pipeline.batch_limit == limit
    assert len(freed) == len([level for level, _ in device.log if level == "warning"])
    assert device.loaded[0].released == len(freed)  # what was recorded for more at once
    device.batches.clear()
    assert answered(pipeline, 5)
    assert max(device.batches) == (limit or 5)
    assert len(device.loaded) == 1


def test_memory_that_is_free_again_helps_one_image(freed: list[int]) -> None:
    device = Device()
    pipeline = device.make()
    device.call_errors = [MemoryError()]
    assert answered(pipeline, 1)
    assert (pipeline.fault, len(freed), device.batches) == ("", 1, [1, 1])


@pytest.mark.parametrize("count", [1, 3])
def test_no_memory_at_all_is_an_error_until_it_is_there_again(count: int) -> None:
    device = Device(room=0)
    pipeline = device.make()
    with pytest.raises(DeviceError, match="the memory for the network is full"):
        pipeline(frames(count))
    assert "choose a smaller model" in pipeline.fault
    assert pipeline.pipeline is None
    calls = len(device.batches)
    with pytest.raises(DeviceError, match="is full"):
        pipeline(frames(count))
    assert len(device.batches) == calls  # nothing is tried before the pause is over
    device.room = 100
    assert pipeline.upkeep() == 1.0
    device.time += 1.0
    assert pipeline.upkeep() is None
    assert (pipeline.fault, pipeline.batch_limit) == ("", None)
    assert answered(pipeline, count)
    assert device.log[-1] == ("info", "the device works again")


def test_a_lost_device_is_loaded_anew_at_once_given_up() -> None:
    device = Device()
    pipeline = device.make()
    device.call_errors = [RuntimeError(LOST)]
    with pytest.raises(DeviceError, match="device-side assert"):
        pipeline(frames(3))
    assert device.batches == [3]
    assert [level for level, _ in device.log] == ["error", "info"]
    device.time += 1.0
    assert pipeline.upkeep() is None
    assert answered(pipeline, 3)
    assert len(device.loaded) == 2


@pytest.mark.parametrize(
    "error", [RuntimeError(LOST), CheckpointError("the file is gone"), ZeroDivisionError()]
)
def test_pauses_grow_while_nothing_helps(error: Exception) -> None:
    device = Device()
    pipeline = device.make()
    device.call_errors = [RuntimeError(LOST)]
    with pytest.raises(DeviceError):
        pipeline(frames(1))
    device.load_errors = [error] * 8
    pauses = []
    while (pause := pipeline.upkeep()) is not None:
        pauses.append(pause)
        device.time += pause
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert answered(pipeline, 1)


def test_a_new_start_that_fails_at_the_first_image_has_not_helped() -> None:
    device = Device()
    pipeline = device.make()
    pauses = []
    for _ in range(3):
        device.call_errors = [RuntimeError(LOST)]
        with pytest.raises(DeviceError):
            pipeline(frames(1))
        pauses.append(pipeline.upkeep())
        device.time += 60
        assert pipeline.upkeep() is None
    assert pauses == [1.0, 2.0, 4.0]
    assert answered(pipeline, 1)
    device.call_errors = [RuntimeError(LOST)]
    with pytest.raises(DeviceError):
        pipeline(frames(1))
    assert pipeline.upkeep() == 1.0


def test_a_fault_of_an_image_passes_through() -> None:
    device = Device()
    pipeline = device.make()
    error = ZeroDivisionError("a bug")
    device.call_errors = [error]
    with pytest.raises(ZeroDivisionError) as caught:
        pipeline(frames(2))
    assert caught.value is error
    assert (pipeline.fault, pipeline.upkeep()) == ("", None)
    assert answered(pipeline, 2)


def test_what_the_first_load_raises_passes_through() -> None:
    device = Device()
    device.load_errors = [RuntimeError(LOST)]
    with pytest.raises(RuntimeError, match="device-side"):
        device.make()


def test_what_adopting_raises_is_tried_again() -> None:
    device = Device()
    errors: list[Exception] = []

    def adopt(_: Any) -> None:
        if errors:
            raise errors.pop()

    pipeline = device.make(adopt=adopt)
    device.call_errors = [RuntimeError(LOST)]
    with pytest.raises(DeviceError):
        pipeline(frames(1))
    errors.append(RuntimeError(LOST))
    device.time += 1
    assert pipeline.upkeep()
    assert pipeline.fault
    with pytest.raises(DeviceError):
        pipeline(frames(1))
    device.time += 60
    assert pipeline.upkeep() is None
    assert answered(pipeline, 1)
    assert not pipeline.fault


def test_ids_go_on_and_settings_are_adopted() -> None:
    device = Device()
    adopted: list[Any] = []
    pipeline = device.make(first_id=7, adopt=adopted.append)
    assert answered(pipeline, 1)
    pipeline.forget()
    assert device.loaded[0].forgotten == 1
    device.call_errors = [RuntimeError(LOST)]
    with pytest.raises(DeviceError):
        pipeline(frames(1))
    pipeline.forget()
    assert pipeline.next_id == 8
    device.time += 1
    pipeline.upkeep()
    assert (device.loaded[1].first_id, pipeline.next_id) == (8, 8)
    assert adopted == device.loaded


def test_pauses() -> None:
    time: Callable[[], float] = iter([10.0, 10.5, 20.0, 30.0]).__next__
    pauses = Pauses(time)
    assert pauses.begin() == 1.0
    assert pauses.left() == 0.5
    assert pauses.left() == 0.0
    pauses.reset()
    assert pauses.begin() == 1.0
