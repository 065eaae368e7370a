"""What the soak benchmark calls a fault, from samples that are made up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")
pytest.importorskip("pose_node.msg", reason="messages missing: build the package first")

pytestmark = pytest.mark.ros

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def soak(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import soak

    yield soak
    for name in ("soak", "processes"):
        sys.modules.pop(name, None)


def samples(**growth: float) -> list[dict[str, float]]:
    """An hour, a sample a minute: steady, apart from what grows by so much an hour."""
    made = []
    for minute in range(1, 61):
        sample = {"seconds": 60.0 * minute, "GPU MB": float("nan"), "poses per second": 30.0}
        for process in ("node", "camera"):
            sample |= {f"{process} MB": 500.0, f"{process} threads": 20.0}
            sample[f"{process} descriptors"] = 19.0
        images = 1800.0 * minute
        sample |= {"received": images, "published": images - 1, "replaced": 0.0}
        sample |= {"lost": 0.0, "refused": 0.0}
        for name, an_hour in growth.items():
            sample[name.replace("_", " ")] += an_hour * minute / 60
        made.append(sample)
    return made


def test_what_is_steady_has_no_fault(soak: Any) -> None:
    assert soak.judge(samples(), 300.0, 1.0) == []
    assert soak.judge(samples(node_MB=0.9), 300.0, 1.0) == []


def test_threads_that_end_and_start_again_with_the_video_are_no_fault(soak: Any) -> None:
    hour = samples()
    hour[45]["camera threads"] -= 1
    assert soak.judge(hour, 300.0, 1.0) == []
    hour[45]["node threads"] -= 1
    assert soak.judge(hour, 300.0, 1.0) == ["threads of the node change: 19 to 20"]


@pytest.mark.parametrize(
    ("growth", "fault"),
    [
        ({"node_MB": 1.5}, "node MB grows by 1.50 an hour"),
        ({"camera_MB": 3.0}, "camera MB grows by 3.00 an hour"),
        ({"node_threads": 60.0}, "threads of the node change"),
        ({"camera_descriptors": 60.0}, "descriptors of the camera become more"),
        ({"refused": 60.0}, "images refused"),
        ({"published": -6000.0}, "images came and were neither"),
        ({"poses_per_second": -30.0}, "times without any poses"),
    ],
)
def test_what_grows_is_a_fault(soak: Any, growth: dict[str, float], fault: str) -> None:
    faults = soak.judge(samples(**growth), 300.0, 1.0)
    assert any(fault in text for text in faults), faults


def test_too_short_a_run_says_so(soak: Any) -> None:
    assert "expected 3 at least" in soak.judge(samples()[:2], 0.0, 1.0)[0]
