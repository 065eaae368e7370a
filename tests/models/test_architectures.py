"""The published sizes of every family, to the last parameter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pose_node import PoseEngine
from pose_node.models.architectures import (
    ARCHITECTURES,
    describe_architecture,
    random_network,
)
from pose_node.models.complexity import count_macs, count_parameters

TRAINED = {"training_parts": True}

PARAMETERS: list[tuple[str, str, dict[str, Any], int | None, int | None]] = [
    ("yolov5", "s6", {}, 15_114_860, 15_086_540),
    ("yolov5", "m6", {}, 41_430_924, None),
    ("yolov5", "m6", {"depthwise_keypoints": False}, 35_755_404, None),
    ("yolov5", "l6", {}, 87_072_812, None),
    ("yolov5", "l6", {"depthwise_keypoints": False}, 77_047_852, None),
    ("yolov5", "s6-lite", {}, 12_560_328, None),
    ("yolov5", "m6-lite", {}, 35_755_752, None),
    ("yolov5", "l6-lite", {}, 77_048_200, None),
    ("yolov7", "w6", {}, 80_238_452, 80_178_356),
    ("yolox", "tiny", {}, 5_546_523, None),
    ("yolox", "s", {}, 9_843_691, None),
    ("yolox", "s-lite", {}, 9_844_039, None),
    ("yolox", "m", {}, 27_303_243, None),
    ("yolox", "l", {}, 57_729_323, None),
    ("yolov8", "n", TRAINED, 3_295_470, 3_289_964),
    ("yolov8", "s", TRAINED, 11_626_046, None),
    ("yolov8", "m", TRAINED, 26_464_462, None),
    ("yolov8", "l", TRAINED, 44_489_196, None),
    ("yolov8", "x", TRAINED, 69_491_724, None),
    ("yolov8", "x-p6", TRAINED, 99_182_640, None),
    ("yolo11", "n", TRAINED, 2_874_462, 2_866_468),
    ("yolo11", "s", TRAINED, 9_918_238, None),
    ("yolo11", "m", TRAINED, 20_912_364, None),
    ("yolo11", "l", TRAINED, 26_169_836, None),
    ("yolo11", "x", TRAINED, 58_798_636, None),
    ("yolo26", "n", TRAINED, 3_679_464, None),
    ("yolo26", "s", TRAINED, 11_809_352, None),
    ("yolo26", "m", TRAINED, 24_222_664, None),
    ("yolo26", "l", TRAINED, 28_626_120, None),
    ("yolo26", "x", TRAINED, 62_731_860, None),
    ("yolo26", "n", {"one_to_one": False}, None, 2_926_494),
    ("yolo26", "s", {"one_to_one": False}, None, 10_359_750),
    ("yolo26", "m", {"one_to_one": False}, None, 21_538_166),
    ("yolo26", "l", {"one_to_one": False}, None, 25_934_454),
    ("yolo26", "x", {"one_to_one": False}, None, 57_557_832),
]
"""Family, size, variant, parameters as trained, parameters as fused (where published)."""


@pytest.mark.parametrize(("family", "size", "variant", "parameters", "fused"), PARAMETERS)
def test_parameters(
    family: str, size: str, variant: dict[str, Any], parameters: int | None, fused: int | None
) -> None:
    description = describe_architecture(family, size, **variant)
    assert parameters in (None, count_parameters(description))
    assert fused in (None, count_parameters(description, fused=True))


@pytest.mark.parametrize(
    ("family", "size", "side", "giga_macs"),
    [
        ("yolov5", "s6", 640, 10.09),
        ("yolov5", "s6", 960, 22.71),
        ("yolov5", "s6-lite", 640, 8.57),
        ("yolov7", "w6", 960, 114.25),
        ("yolox", "s", 640, 15.79),
        ("yolox", "s-lite", 640, 15.82),
        ("yolox", "tiny", 640, 8.96),
    ],
)
def test_operations(family: str, size: str, side: int, giga_macs: float) -> None:
    network = random_network(describe_architecture(family, size))
    assert round(count_macs(network, side, side) / 1e9, 2) == giga_macs


@pytest.mark.parametrize(
    ("family", "size", "strides"),
    [
        ("yolov5", "m6", (8, 16, 32, 64)),
        ("yolov5", "s6-lite", (8, 16, 32, 64)),
        ("yolov7", "w6", (8, 16, 32, 64)),
        ("yolox", "m", (8, 16, 32)),
        ("yolov8", "m", (8, 16, 32)),
        ("yolov8", "n-p6", (8, 16, 32, 64)),
        ("yolo11", "x", (8, 16, 32)),
        ("yolo26", "m", (8, 16, 32)),
    ],
)
def test_full_size_networks_run(family: str, size: str, strides: tuple[int, ...]) -> None:
    description = describe_architecture(family, size)
    network = random_network(description)
    assert network.family == family
    assert network.strides == strides
    stored = sum(parameter.numel() for parameter in network.parameters())
    assert stored == count_parameters(description)
    with torch.inference_mode():
        rows = network.decode(network(torch.full((1, 3, 128, 192), 0.4)))
    anchors = 3 if family in ("yolov5", "yolov7") else 1
    cells = sum(anchors * (128 // stride) * (192 // stride) for stride in strides)
    assert rows.shape == (1, cells, 56)
    assert torch.isfinite(rows).all()


@pytest.mark.parametrize("family", list(ARCHITECTURES))
def test_other_skeletons_and_classes(family: str) -> None:
    size = next(iter(ARCHITECTURES[family]))
    description = describe_architecture(family, size, num_keypoints=21, num_classes=2)
    network = random_network(description)
    assert (network.num_keypoints, network.num_classes) == (21, 2)
    engine = PoseEngine(network.fuse(), image_size=128, score_threshold=0.0, max_people=3)
    (people,) = engine([np.full((90, 120, 3), 99, np.uint8)])
    assert people.keypoints.shape == (3, 21, 3)


@pytest.mark.parametrize("family", ["yolov8", "yolo11", "yolo26"])
def test_keypoints_without_visibility(family: str) -> None:
    network = random_network(describe_architecture(family, "n", keypoint_dimensions=2))
    engine = PoseEngine(network.fuse(), image_size=128, score_threshold=0.0, max_people=3)
    (people,) = engine([np.full((90, 120, 3), 99, np.uint8)])
    assert people.keypoints.shape == (3, 17, 3)
    assert (people.keypoints[..., 2] == 1).all()


def test_the_seed_decides() -> None:
    description = describe_architecture("yolo11", "n")
    first, same, other = (random_network(description, seed=seed) for seed in (1, 1, 2))
    name = "model.0.conv.weight"
    assert torch.equal(first.state_dict()[name], same.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match=r"family must be one of yolov5, yolov7, .*, got 'yolo9'"):
        describe_architecture("yolo9", "n")
    with pytest.raises(ValueError, match="size of yolo11 must be one of n, s, m, l, x, got 'z'"):
        describe_architecture("yolo11", "z")
