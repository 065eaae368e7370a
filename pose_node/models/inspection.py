"""What a network is, for people: size, structure, and whatever is unusual about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from torch import nn

from pose_node.models.architectures import ARCHITECTURES, describe_architecture
from pose_node.models.complexity import count_macs, count_parameters
from pose_node.models.network import PoseNetwork
from pose_node.models.node_makers import BATCH_NORM_EPS
from pose_node.models.nodes import Node
from pose_node.models.yolov5 import ANCHORS, AnchorHead

_ACTIVATIONS = ("SiLU", "ReLU", "LeakyReLU", "Hardswish", "Identity")


def inspect(network: PoseNetwork, image_size: int = 640) -> dict[str, Any]:
    """Describe a network by facts that JSON can hold.

    Args:
        network: as loaded, before `PoseNetwork.fuse`.
        image_size: side of the square input for which operations are counted, in pixels.

    Returns:
        By name: family, size (of the published architecture that it equals, or ""), head, strides,
        keypoints, keypoint_dimensions, classes, class_names, parameters, giga_macs, activations,
        batch_normalisation, channel_order, and "unusual", a list of sentences.
    """
    nodes = [node for layer in network.description.layers for node in _walk(layer.block)]
    normalisations = [node for node in nodes if node.kind == "BatchNorm2d"]
    activations = Counter(node.kind for node in nodes if node.kind in _ACTIVATIONS)
    return {
        "family": network.family,
        "size": _published_size(network),
        "head": network.description.layers[-1].block.kind,
        "strides": list(network.strides),
        "keypoints": network.num_keypoints,
        "keypoint_dimensions": network.keypoint_dimensions,
        "classes": network.num_classes,
        "class_names": list(network.class_names),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        f"giga_macs_{image_size}": round(count_macs(network, image_size, image_size) / 1e9, 2),
        "activations": [f"{count} x {kind}" for kind, count in activations.most_common()],
        "batch_normalisation": "separate" if normalisations else "folded in",
        "channel_order": network.preprocessing.channel_order,
        "unusual": list(_unusual(network, nodes)),
    }


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for part in node.parts.values():
        yield from _walk(part)


def _published_size(network: PoseNetwork) -> str:
    """The published size with as many parameters, counted with normalisation folded in."""
    found = count_parameters(network.description, fused=True)
    arguments: dict[str, Any] = {
        "num_classes": network.num_classes,
        "num_keypoints": network.num_keypoints,
    }
    variants: list[dict[str, Any]] = [arguments]
    if network.family in ("yolov8", "yolo11", "yolo26"):
        arguments["keypoint_dimensions"] = network.keypoint_dimensions
    if network.family == "yolo26":  # files with normalisation folded in keep only one branch
        variants.append({**arguments, "one_to_one": False})
    for size in ARCHITECTURES[network.family]:
        for variant in variants:
            description = describe_architecture(network.family, size, **variant)
            if count_parameters(description, fused=True) == found:
                return size
    return ""


def _unusual(network: PoseNetwork, nodes: list[Node]) -> Iterator[str]:
    """Sentences about whatever differs from the published networks."""
    if not _published_size(network):
        yield f"it has the size of no published {network.family} network"
    if network.num_keypoints != 17:
        yield (
            f"it finds {network.num_keypoints} keypoints, not the 17 of COCO: name them by a "
            "skeleton"
        )
    if network.keypoint_dimensions == 2:
        yield "its keypoints have no score; all get 1"
    if network.num_classes > 1:
        yield f"it knows {network.num_classes} classes: choose among them by the class filter"
    if network.class_names and len(network.class_names) != network.num_classes:
        yield f"it names {len(network.class_names)} classes and scores {network.num_classes}"
    if network.end_to_end:
        yield "only its branches without suppression are there, so iou_threshold has no effect"
    epsilons = {n.settings["eps"] for n in nodes if n.kind == "BatchNorm2d"} - {BATCH_NORM_EPS}
    if epsilons:
        yield f"its batch normalisation has an epsilon of {sorted(epsilons)}, not {BATCH_NORM_EPS}"
    yield from _unusual_activations(network, nodes)
    yield from _unusual_anchors(network)


def _unusual_activations(network: PoseNetwork, nodes: list[Node]) -> Iterator[str]:
    for node in nodes:
        if node.kind in ("SPP", "SPPF") and "cv1" in node.parts:
            first = node.parts["cv1"].parts.get("act", Node("none")).kind
            usual = "Identity" if network.family == "yolo26" else "SiLU"
            if first != usual and network.family != "yolox":
                yield f"the first activation of its pyramid pooling is {first}, usually {usual}"
    kinds = {n.kind for n in nodes if n.kind in _ACTIVATIONS} - {"SiLU", "Identity"}
    if kinds:
        yield f"it has other activations than SiLU: {', '.join(sorted(kinds))}"
    if network.family == "yolox":
        yield (
            "YOLOX checkpoints do not record their activation: it is that of the published "
            "configuration, unless another was given (--activation)"
        )


def _unusual_anchors(network: PoseNetwork) -> Iterator[str]:
    head: nn.Module = network.head
    if not isinstance(head, AnchorHead):
        return
    anchors = head.anchor_grid.flatten().tolist()
    published = [float(side) for level in ANCHORS for anchor in level for side in anchor]
    if len(anchors) != len(published) or any(
        abs(found - expected) > 0.5 for found, expected in zip(anchors, published, strict=True)
    ):
        yield "its anchors are not the published ones: they were fitted to the data of its training"
