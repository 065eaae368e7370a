"""The policy for SROS 2 allows what the processes do: no less, or they fail; no more."""

from __future__ import annotations

import functools
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")
pytest.importorskip("pose_node.msg", reason="messages missing: build the package first")

from rclpy.node import Node

from pose_node.ros.camera import CameraPublisher
from pose_node.ros.camera_options import CameraOptions

pytestmark = pytest.mark.ros

POLICY = Path(__file__).resolve().parents[2] / "config/sros2_policy.xml"
TRANSFORMS = {"/tf", "/tf_static"}
BELOW = {"/rosout"}  # made by the library under rclpy
OPTIONAL = {"/clock", "/parameter_events", *TRANSFORMS}
"""Listened to with simulated time, or with a target frame where tf2_ros is installed."""


def allowed(enclave: str) -> dict[str, set[str]]:
    """The full names that a policy allows: by "publish", "subscribe", "reply", "request"."""
    found: dict[str, set[str]] = {}
    for element in ElementTree.parse(POLICY).iter("enclave"):
        if element.get("path") != f"/pose_node/{enclave}":
            continue
        for profile in element.iter("profile"):
            own = f"{profile.get('ns', '').rstrip('/')}/"
            for group in profile:
                names = {
                    (item.text or "").replace("~/", f"{own}{profile.get('node')}/")
                    for item in group
                }
                for action in group.attrib:
                    found.setdefault(action, set()).update(
                        name if name.startswith("/") else own + name for name in names
                    )
    return found


def used(node: Node) -> dict[str, set[str]]:
    """What a node has made, by the same words."""
    services = node.get_service_names_and_types_by_node(node.get_name(), node.get_namespace())
    return {
        "publish": {item.topic_name for item in node.publishers},
        "subscribe": {item.topic_name for item in node.subscriptions},
        "reply": {item.service_name for item in node.services} | {name for name, _ in services},
    }


@pytest.mark.parametrize("compressed", [False, True])
def test_the_node_does_what_it_may(make_bench: Callable[..., Any], compressed: bool) -> None:
    raw = {"/image_raw", "/depth/image_raw"}
    bench = make_bench(
        image_transport="compressed" if compressed else "raw",
        depth=True,
        depth_transport="compressedDepth" if compressed else "raw",
        publish_unsmoothed=True,
    ).activate()
    found, policy = bench.run(functools.partial(used, bench.node)), allowed("node")
    assert found["publish"] | {"/pose_node/transition_event"} | BELOW == policy["publish"]
    other = raw if compressed else {"/image_raw/compressed", "/depth/image_raw/compressedDepth"}
    assert found["subscribe"] | OPTIONAL == policy["subscribe"] - other
    assert found["reply"] == policy["reply"]


def test_the_camera_does_what_it_may(ros: Any) -> None:
    node = ros.create_node("camera")
    CameraPublisher(node, CameraOptions("0", transport="both"), None)
    found, policy = used(node), allowed("camera")
    node.destroy_node()
    assert found["publish"] | BELOW == policy["publish"]
    assert found["subscribe"] | OPTIONAL - TRANSFORMS == policy["subscribe"]
    assert found["reply"] == policy["reply"]


def test_listener_and_operator_ask_for_what_there_is() -> None:
    node, listener, operator = (allowed(name) for name in ("node", "listener", "operator"))
    assert listener["subscribe"] - OPTIONAL == node["publish"] - {
        *("/pose_node/transition_event", "/rosout", "/parameter_events")
    }
    assert operator["request"] == node["reply"] - {"/pose_node/get_type_description"}
    assert "request" not in listener, "who only listens changes nothing"
