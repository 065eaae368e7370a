"""Fixtures of the ROS tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def read_log(capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Gives all that the test has written to the standard error stream so far.

    `capfd` makes that stream a file, which is read beside the writers: `capfd.readouterr()` empties
    it after reading, and what another thread writes in between is lost.
    """

    def read() -> str:
        return os.pread(2, os.fstat(2).st_size, 0).decode(errors="replace")

    return read


@pytest.fixture
def make_bench(ros: Any, read_log: Callable[[], str]) -> Iterator[Callable[..., Any]]:
    """Makes benches for the node (node_bench.py): keyword arguments are parameters of the node."""
    from tests.ros.node_bench import Bench

    made: list[Bench] = []

    def make(load: Any = None, arguments: Any = None, **overrides: Any) -> Bench:
        overrides = {"diagnostics_period": 0.1, **overrides}
        made.append(Bench(ros, read_log, overrides, load, **(arguments or {})))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench(make_bench: Callable[..., Any]) -> Any:
    """An active node with a fake network, and its peer."""
    return make_bench().activate()


@pytest.fixture
def start(ros: Any) -> Iterator[Callable[..., Any]]:
    """Starts node processes (process_bench.py) and sees that none is left."""
    from tests.ros.process_bench import Process

    started: list[Process] = []

    def run(*parameters: str, **named: Any) -> Process:
        started.append(Process(*parameters, **named))
        return started[-1]

    yield run
    for process in started:
        process.close()


@pytest.fixture
def start_faulty(start: Callable[..., Any]) -> Callable[..., Any]:
    """The same for processes with a fake network that fails by plan (faulty_node.py)."""
    from tests.ros.process_bench import FAULTY

    def run(*parameters: str, **named: Any) -> Any:
        return start("diagnostics_period:=0.1", *parameters, program=FAULTY, **named)

    return run


@pytest.fixture
def robot(ros: Any) -> Iterator[Any]:
    """The other side of the topics of a node process."""
    from rclpy.executors import SingleThreadedExecutor

    from tests.ros.process_bench import Robot

    node = ros.create_node("robot")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    yield Robot(node, lambda seconds: executor.spin_once(timeout_sec=seconds))
    executor.shutdown()
    node.destroy_node()
