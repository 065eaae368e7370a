"""Why no images come, in words: the help that users of image nodes ask for most.

Pure functions over what the ROS graph says.
"""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo

SECONDS = 5.0  # from activation to the verdict

RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
_TRANSPORTS = {RAW: "raw", COMPRESSED: "compressed"}


def explain_silence(
    name: str,
    topic: str,
    wanted_type: str,
    qos: QoSProfile,
    publishers: Sequence[TopicEndpointInfo],
    topics: Sequence[tuple[str, Sequence[str]]],
) -> str:
    """Say why no image has come and what to change.

    Args:
        name: what the node calls the topic that it listens to, before remapping.
        topic: the same, fully resolved.
        wanted_type: `RAW` or `COMPRESSED`.
        qos: what the node's subscription asks for.
        publishers: who publishes on that topic.
        topics: all topics with their types.
    """
    start = f"no image on {topic} ({wanted_type}) after {SECONDS:.0f} s: "
    if not publishers:
        return start + _explain_no_publisher(name, topic, wanted_type, topics)
    types = {publisher.topic_type for publisher in publishers}
    if wanted_type not in types:
        return start + _explain_type(types)
    for publisher in publishers:
        compatibility, reason = qos_check_compatible(publisher.qos_profile, qos)
        if compatibility == QoSCompatibility.ERROR:
            return start + (
                f"the QoS of {publisher.node_name} does not match this node's ({_plain(reason)}); "
                "remove or change the qos_overrides parameter of this node"
            )
    names = ", ".join(sorted({publisher.node_name for publisher in publishers}))
    return start + (
        f"{names} publishes it, but nothing arrives; check that "
        "the camera runs with `ros2 topic hz`, and if that sees images, the DDS settings (README, "
        "Troubleshooting)"
    )


def _plain(reason: str) -> str:
    """What rclpy says of incompatible QoS, without its level and stops."""
    return reason.strip().removeprefix("ERROR:").strip(" ;").lower()


def _explain_no_publisher(
    name: str, topic: str, wanted_type: str, topics: Sequence[tuple[str, Sequence[str]]]
) -> str:
    base = topic.removesuffix("/compressed")
    others = sorted(
        other
        for other, types in topics
        if wanted_type in types and other != topic and "image_annotated" not in other
    )
    for other, types in topics:
        if other in (base, f"{base}/compressed") and other != topic:
            transport = next((_TRANSPORTS[kind] for kind in types if kind in _TRANSPORTS), None)
            if transport:
                return (
                    f"nothing publishes it, but {other} is there: set image_transport: {transport}"
                )
    if others:
        return (
            f"nothing publishes it; such images are on {', '.join(others[:5])}: remap with "
            f"`--ros-args -r {name}:={others[0]}` or the launch argument `image`"
        )
    return "nothing publishes it, nor such images on any other topic: start a camera"


def _explain_type(types: set[str]) -> str:
    found = ", ".join(sorted(types))
    for kind, transport in _TRANSPORTS.items():
        if kind in types:
            return f"it carries {found}: set image_transport: {transport}"
    return f"it carries {found}, which is no image: remap image_raw to the camera's image topic"


def explain_no_depth(
    name: str,
    topic: str,
    wanted_type: str,
    publishers: Sequence[TopicEndpointInfo],
    topics: Sequence[tuple[str, Sequence[str]]],
) -> str:
    """Say why no depth image has come and what to change; arguments as of `explain_silence`."""
    start = f"no depth image on {topic} ({wanted_type}) after {SECONDS:.0f} s: "
    if publishers:
        types = ", ".join(sorted({publisher.topic_type for publisher in publishers}))
        if wanted_type not in types:
            return start + f"it carries {types}: set depth_transport to go with that"
        return start + "it is published, but nothing arrives; check the camera, and DDS (README)"
    suffix = "/compressedDepth"
    others = sorted(
        other.removesuffix(suffix)
        for other, types in topics
        if wanted_type in types
        and "depth" in other
        and other.endswith(suffix) == (wanted_type == COMPRESSED)
    )
    if not others:
        return start + "nothing publishes it, nor such images on a topic with depth in its name"
    return start + (
        f"nothing publishes it; there are {', '.join(others[:5])}: remap with `--ros-args "
        f"-r {name}:={others[0]}` to the one that is aligned to the colour image"
    )


def explain_incompatible_qos(topic: str, policy: str) -> str:
    """Say what keeps a publisher's images away."""
    return (
        f"a publisher on {topic} offers QoS that does not match this node's subscription in "
        f"{policy}: none of its images arrives; remove the qos_overrides parameter of this node, "
        f"or change {policy} of the publisher"
    )


def explain_zero_stamp(topic: str) -> str:
    """Say what a missing capture time spoils."""
    return (
        f"images on {topic} have no stamp (0): results carry the same, so ages are unknown and "
        "nothing can be matched to them; let the camera driver set header.stamp"
    )
