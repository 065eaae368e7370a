"""What is said of a network: the facts, and whatever is unusual."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from pose_node.models import PoseNetwork, load_network
from pose_node.models.architectures import describe_architecture, random_network
from pose_node.models.inspection import inspect


def network(family: str, size: str, **arguments: Any) -> PoseNetwork:
    return random_network(describe_architecture(family, size, **arguments))


def test_the_official_network_is_as_published(yolo11n_pose: Path) -> None:
    facts = inspect(load_network(yolo11n_pose))
    assert facts == {
        "family": "yolo11",
        "size": "n",
        "head": "Pose",
        "strides": [8, 16, 32],
        "keypoints": 17,
        "keypoint_dimensions": 3,
        "classes": 1,
        "class_names": ["person"],
        "parameters": 2_874_462 - 16,  # the fixed weights of box distances are none of ours
        "giga_macs_640": 3.7,
        "activations": ["83 x SiLU", "4 x Identity"],
        "batch_normalisation": "separate",
        "channel_order": "rgb",
        "unusual": [],
    }


@pytest.mark.parametrize(
    ("family", "size"), [("yolov5", "s6"), ("yolov8", "n"), ("yolo26", "n"), ("yolox", "s")]
)
def test_published_sizes_are_recognised(family: str, size: str) -> None:
    assert inspect(network(family, size))["size"] == size


@pytest.mark.parametrize(
    ("family", "size", "arguments", "remark"),
    [
        ("yolo11", "n", {"num_keypoints": 21}, "it finds 21 keypoints, not the 17 of COCO"),
        ("yolo11", "n", {"keypoint_dimensions": 2}, "its keypoints have no score"),
        ("yolo11", "n", {"num_classes": 2}, "it knows 2 classes"),
        ("yolov5", "s6-lite", {}, "it has other activations than SiLU: ReLU"),
        ("yolox", "tiny", {}, "YOLOX checkpoints do not record their activation"),
    ],
)
def test_what_is_unusual_is_said(
    family: str, size: str, arguments: dict[str, Any], remark: str
) -> None:
    unusual = inspect(network(family, size, **arguments))["unusual"]
    assert [text for text in unusual if text.startswith(remark)]


def test_a_size_that_nobody_published(shared: Path) -> None:
    facts = inspect(load_network(shared / "fixtures/ul_yolo26_tiny_pose_fused_o2o.pt"))
    assert facts["size"] == ""
    assert facts["batch_normalisation"] == "folded in"
    assert facts["unusual"] == [
        "it has the size of no published yolo26 network",
        "only its branches without suppression are there, so iou_threshold has no effect",
    ]


def test_anchors_of_ones_own() -> None:
    found = network("yolov5", "s6")
    assert inspect(found)["unusual"] == []
    found.head.anchor_grid.mul_(1.5)  # type: ignore[operator]
    assert "its anchors are not the published ones" in inspect(found)["unusual"][0]


def test_names_that_do_not_fit_the_classes() -> None:
    found = network("yolov8", "n")
    found.class_names = ("person", "bicycle")
    assert inspect(found)["unusual"] == ["it names 2 classes and scores 1"]


def test_another_epsilon_and_activation(shared: Path) -> None:
    loaded = load_network(shared / "fixtures/ul_yolo11_tiny_pose.pt")
    layers = list(loaded.description.layers)
    first = layers[0].block
    changed = {**first.parts, "bn": dataclasses.replace(first.parts["bn"], settings={"eps": 1e-5})}
    layers[0] = dataclasses.replace(layers[0], block=dataclasses.replace(first, parts=changed))
    changed["bn"].settings["num_features"] = 8
    pooling = layers[9].block.parts["cv1"]
    pooling.parts["act"] = dataclasses.replace(pooling.parts["act"], kind="Identity")
    loaded.description = dataclasses.replace(loaded.description, layers=tuple(layers))
    unusual = inspect(loaded)["unusual"]
    assert "its batch normalisation has an epsilon of [1e-05], not 0.001" in unusual
    assert "the first activation of its pyramid pooling is Identity, usually SiLU" in unusual


def test_nothing_is_computed_or_changed() -> None:
    found = network("yolov8", "n")
    before = {name: tensor.clone() for name, tensor in found.state_dict().items()}
    inspect(found)
    assert all(torch.equal(before[name], tensor) for name, tensor in found.state_dict().items())
