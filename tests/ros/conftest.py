"""Fixtures of the ROS tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture
def make_bench(ros: Any, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Any]]:
    """Makes benches for the node (node_bench.py): keyword arguments are parameters of the node."""
    from tests.ros.node_bench import Bench

    made: list[Bench] = []

    def make(load: Any = None, arguments: Any = None, **overrides: Any) -> Bench:
        overrides = {"diagnostics_period": 0.1, **overrides}
        made.append(
            Bench(ros, lambda: capfd.readouterr().err, overrides, load, **(arguments or {}))
        )
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench(make_bench: Callable[..., Any]) -> Any:
    """An active node with a fake network, and its peer."""
    return make_bench().activate()
