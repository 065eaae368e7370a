"""The topics of all cameras together: what has nothing to publish is said."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from visualization_msgs.msg import Marker, MarkerArray

from pose_node.ros import node, node_topics
from pose_node.ros.node_topics import explain_silent_adapters
from pose_node.ros.parameters import NodeParameters
from tests.ros.node_bench import Bench

pytestmark = pytest.mark.ros


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, []),
        ({"adapters": ("vision_msgs", "foxglove_msgs")}, []),
        ({"adapters": ("tf",), "depth": True}, []),
        ({"adapters": ("hri_msgs",), "tracker": True}, []),
        ({"adapters": ("tf",)}, ["set depth to true"]),
        ({"adapters": ("hri_msgs",), "depth": True}, ["set tracker to true"]),
        ({"adapters": ("hri_msgs", "tf")}, ["set depth to true", "set tracker to true"]),
    ],
)
def test_adapters_with_nothing_to_publish(given: dict[str, Any], said: list[str]) -> None:
    reasons = explain_silent_adapters(NodeParameters(**given))
    assert len(reasons) == len(said)
    for reason, part in zip(reasons, said, strict=True):
        assert part in reason


class NoAdapters:
    """Stands in for adapters, whose packages may be missing."""

    def __init__(self, *_: Any) -> None:
        pass

    def destroy(self) -> None:
        pass


def test_an_adapter_with_nothing_to_publish_is_said_once(
    make_bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_topics, "Adapters", NoAdapters)
    monkeypatch.setattr(node, "check_adapters", lambda *_: None)
    bench: Bench = make_bench(adapters=["tf"]).activate()
    line = "adapters: tf publishes people in space only: set depth to true, too"
    bench.wait_for_log("adapters", "warn")
    assert [text for text in bench.logs("warn") if "adapters" in text] == [line]


def test_markers_go_when_the_node_rests(make_bench: Any) -> None:
    bench: Bench = make_bench(depth=True, marker_lifetime=0.0).activate()
    markers = bench.listen(MarkerArray, "markers")
    bench.until(lambda: bench.is_heard("markers"))
    assert bench.transition("deactivate") == ["SUCCESS"]
    assert bench.get(markers).markers[0].action == Marker.DELETEALL
