"""Each reason for silence has its own words; what the real graph says is in test_node.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from pose_node.ros.start_up import (
    COMPRESSED,
    RAW,
    explain_incompatible_qos,
    explain_no_depth,
    explain_silence,
    explain_zero_stamp,
)

pytestmark = pytest.mark.ros

BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
START = f"no image on /image_raw ({RAW}) after 5 s: "
OTHER = "std_msgs/msg/String"


def publisher(
    kind: str = RAW, qos: QoSProfile = BEST_EFFORT, node: str = "camera"
) -> SimpleNamespace:
    return SimpleNamespace(topic_type=kind, qos_profile=qos, node_name=node)


def explain(
    publishers: list[Any],
    topics: dict[str, str],
    *,
    name: str = "image_raw",
    kind: str = RAW,
    qos: QoSProfile = BEST_EFFORT,
) -> str:
    found = [(topic, [of]) for topic, of in topics.items()]
    return explain_silence(name, f"/{name}", kind, qos, publishers, found)


def test_no_camera_at_all() -> None:
    assert explain([], {"/image_raw": RAW, "/chatter": OTHER}) == (
        START + "nothing publishes it, nor such images on any other topic: start a camera"
    )


def test_own_annotated_image_is_no_camera() -> None:
    assert "nor such images" in explain([], {"/image_annotated": RAW})


def test_images_elsewhere() -> None:
    assert explain([], {"/rear/image": RAW, "/camera/color": RAW, "/camera/info": OTHER}) == (
        START + "nothing publishes it; such images are on /camera/color, /rear/image: remap with "
        "`--ros-args -r image_raw:=/camera/color` or the launch argument `image`"
    )


def test_compressed_images_elsewhere_are_remapped_by_their_whole_name() -> None:
    reason = explain(
        [],
        {"/camera/color/compressed": COMPRESSED, "/camera/color": RAW},
        name="front/image_raw/compressed",
        kind=COMPRESSED,
    )
    assert "-r front/image_raw/compressed:=/camera/color/compressed`" in reason


def test_many_topics_are_not_all_listed() -> None:
    reason = explain([], {f"/camera{index}": RAW for index in range(9)})
    assert "/camera4: remap" in reason
    assert "/camera5" not in reason


def test_only_compressed_images_of_this_camera() -> None:
    reason = explain([], {"/image_raw/compressed": COMPRESSED, "/elsewhere": RAW})
    assert reason == (
        START + "nothing publishes it, but /image_raw/compressed is there: "
        "set image_transport: compressed"
    )


def test_only_raw_images_of_this_camera() -> None:
    reason = explain([], {"/image_raw": RAW}, name="image_raw/compressed", kind=COMPRESSED)
    assert reason.endswith("but /image_raw is there: set image_transport: raw")


def test_the_other_kind_of_image() -> None:
    reason = explain([publisher(COMPRESSED)], {"/image_raw": COMPRESSED})
    assert reason == START + f"it carries {COMPRESSED}: set image_transport: compressed"


def test_no_image_at_all() -> None:
    reason = explain([publisher(OTHER)], {"/image_raw": OTHER})
    assert reason == START + (
        f"it carries {OTHER}, which is no image: remap image_raw to the camera's image topic"
    )


@pytest.mark.parametrize(
    ("offered", "asked", "words"),
    [
        (BEST_EFFORT, RELIABLE, "best effort publisher and reliable subscription"),
        (RELIABLE, LATCHED, "volatile publisher and transient local subscription"),
    ],
)
def test_qos(offered: QoSProfile, asked: QoSProfile, words: str) -> None:
    reason = explain([publisher(qos=offered)], {"/image_raw": RAW}, qos=asked)
    assert reason == START + (
        f"the QoS of camera does not match this node's ({words}); "
        "remove or change the qos_overrides parameter of this node"
    )


def test_publisher_that_is_silent() -> None:
    reason = explain([publisher(node="zed"), publisher(qos=RELIABLE)], {"/image_raw": RAW})
    assert reason == START + (
        "camera, zed publishes it, but nothing arrives; check that the camera runs with "
        "`ros2 topic hz`, and if that sees images, the DDS settings (README, Troubleshooting)"
    )


def test_incompatible_qos_names_topic_and_policy() -> None:
    text = explain_incompatible_qos("/front/image_raw", "reliability")
    assert text.startswith("a publisher on /front/image_raw offers QoS that does not match")
    assert text.endswith("or change reliability of the publisher")


def test_zero_stamp_names_the_topic() -> None:
    text = explain_zero_stamp("/front/image_raw")
    assert text.startswith("images on /front/image_raw have no stamp (0)")
    assert text.endswith("let the camera driver set header.stamp")


# Depth


def explain_depth(
    publishers: list[Any], topics: dict[str, str] | None = None, *, kind: str = RAW
) -> str:
    found = [(topic, [of]) for topic, of in (topics or {}).items()]
    text = explain_no_depth("depth/image_raw", "/depth/image_raw", kind, publishers, found)
    return text.removeprefix(f"no depth image on /depth/image_raw ({kind}) after 5 s: ")


def test_no_depth_anywhere() -> None:
    assert explain_depth([], {"/camera/color": RAW, "/depth/points": OTHER}) == (
        "nothing publishes it, nor such images on a topic with depth in its name"
    )


def test_depth_elsewhere() -> None:
    topics = {
        "/c/aligned_depth_to_color/image_raw": RAW,
        "/c/aligned_depth_to_color/image_raw/compressedDepth": COMPRESSED,
        "/c/depth/image/compressed": COMPRESSED,
        "/c/color/image_raw": RAW,
    }
    for kind in (RAW, COMPRESSED):
        assert explain_depth([], topics, kind=kind) == (
            "nothing publishes it; there are /c/aligned_depth_to_color/image_raw: remap with "
            "`--ros-args -r depth/image_raw:=/c/aligned_depth_to_color/image_raw` to the one that "
            "is aligned to the colour image"
        )


def test_depth_of_another_type() -> None:
    assert explain_depth([publisher(COMPRESSED)]) == (
        f"it carries {COMPRESSED}: set depth_transport to go with that"
    )


def test_depth_that_does_not_arrive() -> None:
    assert "published, but nothing arrives" in explain_depth([publisher(RAW)])
