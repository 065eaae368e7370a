"""A device that runs out of memory or vanishes, at every stage: never the end of the process."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from diagnostic_msgs.msg import DiagnosticStatus
from pose_node.msg import PersonPoseArray

from pose_node import Frame
from pose_node.pipeline import Found
from pose_node.ros import recovery
from pose_node.ros.parameters import NodeParameters
from tests.ros.faulty_node import BUG, HANGS, LOST, OUT_OF_MEMORY
from tests.ros.node_bench import Bench, FakePipeline, fresh_image
from tests.ros.process_bench import Robot

pytestmark = pytest.mark.ros

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


# A process


def test_a_process_that_cannot_load_for_now_tries_again(
    start_faulty: Callable[..., Any], robot: Robot, tmp_path: Path
) -> None:
    error = tmp_path / "error"
    error.write_text("CUDA out of memory")
    process = start_faulty(environment={"FAULTY_LOADS": str(error)})
    robot.watch()
    status = robot.wait_for(ERROR, "no network", "node")
    assert "choose a smaller model" in status.message
    assert robot.wait_for_summary(ERROR).message == status.message
    error.unlink()
    robot.wait_for(OK, "working", "node")
    assert len(robot.ask().people) == 2
    assert process.end(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("fault", "message"),
    [(OUT_OF_MEMORY, "the memory for the network is full"), (LOST, "the device failed")],
)
def test_a_device_that_fails_is_told_and_comes_back(
    start_faulty: Callable[..., Any], robot: Robot, fault: int, message: str
) -> None:
    process = start_faulty()
    robot.watch().wait_for_node()
    robot.ask()
    robot.wait_for(OK, "working", "node")
    robot.wait_for(OK, "working")
    status = robot.wait_for(ERROR, "device fault", "node", lambda: robot.send(value=fault))
    assert status.message.startswith(message)
    assert robot.wait_for_summary(ERROR).message == status.message
    # Images that come meanwhile are refused and counted, and answered again afterwards.
    robot.poses.clear()
    robot.ask()
    robot.wait_for(OK, "working", "node")
    assert int(robot.value("refused: device fault")) > 0
    robot.wait_for(WARN, "images refused")
    assert "the device works again" in process.output
    assert "Traceback" not in process.output
    assert process.end(signal.SIGINT) == 0


def test_a_device_that_hangs_is_told_and_the_process_can_be_ended(
    start_faulty: Callable[..., Any], robot: Robot
) -> None:
    process = start_faulty(environment={"FAULTY_PATIENCE": "1"})
    robot.watch().wait_for_node()
    robot.ask()
    robot.wait_for(OK, "working")
    status = robot.wait_for(ERROR, "no answers any more", meanwhile=lambda: robot.send(value=HANGS))
    assert status.message.startswith("no image was answered for ")
    assert process.end(signal.SIGTERM) == 1
    assert "a thread that cannot be ended" in process.output


def test_a_bug_is_one_failed_image(start_faulty: Callable[..., Any], robot: Robot) -> None:
    process = start_faulty()
    robot.watch().wait_for_node()
    robot.ask()
    status = robot.wait_for(ERROR, "images fail", meanwhile=lambda: robot.send(value=BUG))
    assert status.message == "images fail: integer division or modulo by zero"
    robot.ask()
    robot.wait_for(OK, "working")
    assert process.output.count("Traceback") == 1  # the others within five seconds are counted only
    assert process.end(signal.SIGINT) == 0


# Several cameras


class SmallDevice(FakePipeline):
    """Has memory for two images at once."""

    def __call__(self, frames: Sequence[Frame]) -> list[Found]:
        found = super().__call__(frames)
        if len(frames) > 2:
            raise RuntimeError("CUDA out of memory")
        return found


def test_several_cameras_share_what_memory_there_is(make_bench: Any) -> None:
    names = ["front", "left", "rear"]
    bench: Bench = make_bench(SmallDevice, cameras=names).activate()
    heard = {name: bench.listen(PersonPoseArray, f"{name}/poses") for name in names}
    for name in names:
        bench.until(lambda name=name: bench.is_heard(f"{name}/poses"))  # type: ignore[misc]
    for _ in range(2):
        bench.pipeline.gate.clear()
        bench.send(fresh_image(), "front/image_raw")
        bench.get(bench.pipeline.entered)
        before = {name: int(bench.values(f"/{name}/image_raw")["received"]) for name in names}
        for name in names:
            bench.send(fresh_image(), f"{name}/image_raw")
            bench.wait_for_value("received", str(before[name] + 1), f"/{name}/image_raw")
        bench.pipeline.gate.set()
        for name in ("front", *names):
            assert len(bench.get(heard[name]).people) == 2
        while not bench.pipeline.entered.empty():
            bench.pipeline.entered.get_nowait()
    # All at once only until it is known how many go at once.
    assert [len(batch) for batch in bench.pipeline.batches] == [1, 3, 2, 1, 1, 2, 1]
    status = bench.status("node")
    assert status.level == WARN
    assert status.message.startswith("the device has memory for 2 images at once only")
    assert bench.values("node")["images at once"] == "2"
    (line,) = (text for text in bench.logs("warn") if "at once" in text)
    assert line.startswith("from now on at most 2 images at once: the memory for the network is")
    assert bench.transition("deactivate", "cleanup", "configure", "activate") == ["SUCCESS"] * 4
    assert bench.status("node").level == OK


def test_parameters_set_while_the_device_is_broken_hold_afterwards(
    make_bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "FIRST_PAUSE", 0.3)
    loaded: list[FakePipeline] = []

    def load(parameters: NodeParameters) -> FakePipeline:
        loaded.append(FakePipeline(parameters))
        return loaded[-1]

    bench: Bench = make_bench(load).activate()
    loaded[0].errors = [RuntimeError("CUDA error: unknown error")]
    bench.send(fresh_image())
    bench.until(lambda: bench.node._device.loaded.fault != "")
    assert bench.set_parameters(max_people=7)[0].successful
    bench.until(lambda: len(loaded) == 2)
    bench.until(lambda: bench.node._device.loaded.fault == "")
    assert loaded[1].engine.max_people == 7
    image = fresh_image()
    assert bench.ask(image).header == image.header


def test_a_node_can_be_stopped_while_its_device_is_broken(make_bench: Any) -> None:
    bench: Bench = make_bench().activate()
    bench.pipeline.errors = [RuntimeError("CUDA error: unknown error")]
    bench.send(fresh_image())
    bench.until(lambda: bench.node._device.loaded.fault != "")
    assert bench.transition("deactivate", "cleanup") == ["SUCCESS"] * 2
    bench.activate()
    image = fresh_image()
    assert bench.ask(image).header == image.header
    assert bench.status("node").level == OK


# Every stage of the real engine


@pytest.mark.parametrize(
    ("stage", "kind"),
    [
        ("load", "lost"),
        ("warm-up", "memory"),
        ("preprocess", "memory"),
        ("network", "memory"),
        ("network", "lost"),
        ("postprocess", "lost"),
    ],
)
def test_a_fault_at_any_stage_of_the_engine(
    make_bench: Any,
    monkeypatch: pytest.MonkeyPatch,
    yolo11n_pose: Any,
    stage: str,
    kind: str,
) -> None:
    torch = pytest.importorskip("torch", reason="torch missing")
    from pose_node.inference import engine
    from pose_node.ros.loading import load_pipeline

    monkeypatch.setattr(recovery, "FIRST_PAUSE", 0.1)
    error = (
        torch.OutOfMemoryError("CUDA out of memory")
        if kind == "memory"
        else RuntimeError("CUDA error: an illegal memory access was encountered")
    )
    plan: list[Exception] = []

    def break_it(where: Any, name: str) -> None:
        real = getattr(where, name)

        def run(*arguments: Any, **named: Any) -> Any:
            if plan:
                raise plan.pop(0)
            return real(*arguments, **named)

        monkeypatch.setattr(where, name, run)

    where, name = {
        "load": (engine, "prepare"),
        "warm-up": (engine.PoseEngine, "warm_up"),
        "preprocess": (engine.Letterbox, "draw"),
        "network": (torch.Tensor, "to"),
        "postprocess": (engine, "non_maximum_suppression"),
    }[stage]
    break_it(where, name)
    bench: Bench = make_bench(load_pipeline, model=str(yolo11n_pose), device="cpu", image_size=64)
    at_start = stage in ("load", "warm-up")
    if at_start:
        plan[:] = [error]
        assert bench.transition("configure") == ["FAILURE"]
        status = bench.status("node")
        assert status.level == ERROR
        assert status.message.startswith("no network: the ")
    bench.activate()
    large = {"width": 64, "height": 48, "step": 192}
    noise = np.random.default_rng(0).integers(0, 256, (48, 192), np.uint8).tobytes()
    image = fresh_image(**large, data=noise)
    assert bench.ask(image).header == image.header
    if not at_start:
        bench.set_parameters(score_threshold=0.0)  # so that there is something to suppress
        plan[:] = [error, error]  # for memory is freed and one more attempt made
        bench.send(fresh_image(**large, data=noise))
        bench.wait_for_log("no people are found until the network is loaded anew", "error")
        bench.wait_for_log("the device works again", "info")
        plan.clear()
        image = fresh_image(**large, data=noise)
        assert bench.ask(image).header == image.header
    assert bench.status("node").level in (OK, WARN)  # WARN: the CPU, where a GPU was expected
