"""The walk to active: again where time may heal, never where it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from diagnostic_msgs.msg import DiagnosticStatus

from pose_node.errors import CheckpointError
from pose_node.ros.autostart import Autostart
from pose_node.ros.parameters import NodeParameters
from tests.ros.node_bench import Bench, FakePipeline, fresh_image, raise_like

pytestmark = pytest.mark.ros

OUT_OF_MEMORY = RuntimeError("CUDA out of memory")


def loader(errors: list[Exception]) -> Callable[[NodeParameters], FakePipeline]:
    """Raises the errors, one each time, then loads."""

    def load(parameters: NodeParameters) -> FakePipeline:
        if errors:
            raise_like(errors.pop(0))
        return FakePipeline(parameters)

    return load


def test_what_the_device_lacks_is_waited_for(make_bench: Any) -> None:
    bench: Bench = make_bench(loader([OUT_OF_MEMORY, RuntimeError("CUDA error: lost")]))
    time = [0.0]
    autostart = Autostart(bench.node, now=lambda: time[0])
    assert bench.run(autostart.step)
    status = bench.status("node")
    assert status.level == DiagnosticStatus.ERROR
    assert status.message.startswith("no network: the memory for the network is full (CUDA out of")
    time[0] = 0.9
    assert bench.run(autostart.step)
    assert bench.state == "unconfigured"
    time[0] = 1.0
    assert bench.run(autostart.step)
    assert bench.status("node").message.startswith("no network: the device failed (CUDA error")
    time[0] = 3.0
    assert bench.run(autostart.step)
    assert bench.state == "active"
    image = fresh_image()
    assert bench.ask(image).header == image.header
    status = bench.status("node")
    assert (status.level, status.message) == (DiagnosticStatus.OK, "yolo11n-pose on cuda:0")
    time[0] = 99.0
    assert bench.run(autostart.step)  # and never again


def test_a_walk_may_end_half_way(make_bench: Any) -> None:
    bench: Bench = make_bench()
    autostart = Autostart(bench.node, goal="inactive")
    assert not autostart.done
    assert bench.run(autostart.step)
    assert (bench.state, autostart.done) == ("inactive", True)
    assert bench.run(autostart.step)
    assert bench.state == "inactive"


def test_what_time_does_not_heal_is_the_end(make_bench: Any) -> None:
    bench: Bench = make_bench(loader([CheckpointError("no such model")]))
    assert not bench.run(Autostart(bench.node).step)
    assert bench.logs("error") == ["cannot configure: no such model"]


def test_a_node_that_was_shut_down_stays_so(make_bench: Any) -> None:
    bench: Bench = make_bench(loader([OUT_OF_MEMORY] * 5))
    time = [0.0]
    autostart = Autostart(bench.node, now=lambda: time[0])
    assert bench.run(autostart.step)
    assert bench.transition("shutdown") == ["SUCCESS"]
    time[0] = 5.0
    assert bench.run(autostart.step)
    assert (bench.state, bench.node.state_name) == ("finalized", "finalized")
    status = bench.status("node")
    assert (status.level, status.message) == (
        DiagnosticStatus.OK,
        "finalized: nothing is processed",
    )


def test_somebody_else_may_be_faster(make_bench: Any) -> None:
    bench: Bench = make_bench(loader([OUT_OF_MEMORY]))
    time = [0.0]
    autostart = Autostart(bench.node, now=lambda: time[0])
    assert bench.run(autostart.step)
    assert bench.transition("configure") == ["SUCCESS"]
    time[0] = 5.0
    assert bench.run(autostart.step)
    assert bench.state == "inactive"
