"""The published architectures by family and size, without weights or with random ones.

For what needs a network of a certain shape and not its answers: counting parameters, timing,
testing, and training from the start.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pose_node.models import yolo11, yolo26, yolov5, yolov7, yolov8, yolox
from pose_node.models.description import build
from pose_node.models.network import PoseNetwork
from pose_node.models.nodes import NetworkDescription

_YOLOX_SCALES = {"tiny": (1, 0.375), "s": (1, 0.5), "m": (2, 0.75), "l": (3, 1.0), "x": (4, 1.25)}
"""Blocks of the shallowest stage, and width."""


def _yolox(size: str, **arguments: Any) -> NetworkDescription:
    scale, _, lite = size.partition("-")
    depth, width = _YOLOX_SCALES[scale]
    return yolox.architecture(
        channels=int(64 * width),
        depth=depth,
        head_channels=int(256 * width),
        lite=bool(lite),
        activation="ReLU" if lite else "SiLU",
        **arguments,
    )


def _yolov5(size: str, **arguments: Any) -> NetworkDescription:
    scale, _, lite = size.partition("-")
    return yolov5.architecture(scale, lite=bool(lite), **arguments)


ARCHITECTURES: dict[str, dict[str, Callable[..., NetworkDescription]]] = {
    "yolov5": {
        size: functools.partial(_yolov5, size)
        for scale in yolov5.SCALES
        for size in (scale, f"{scale}-lite")
    },
    "yolov7": {"w6": yolov7.architecture},
    "yolox": {
        size: functools.partial(_yolox, size)
        for scale in _YOLOX_SCALES
        for size in (scale, f"{scale}-lite")
    },
    "yolov8": {
        size: functools.partial(yolov8.architecture, size)
        for scale in yolov8.SCALES
        for size in (scale, f"{scale}-p6")
    },
    "yolo11": {size: functools.partial(yolo11.architecture, size) for size in yolo11.SCALES},
    "yolo26": {size: functools.partial(yolo26.architecture, size) for size in yolo26.SCALES},
}
"""For each family and size what describes it."""


def describe_architecture(family: str, size: str, **arguments: Any) -> NetworkDescription:
    """Describe a published architecture.

    Args:
        family: "yolov5", "yolov7", "yolox", "yolov8", "yolo11" or "yolo26".
        size: for example "s6", "s6-lite", "w6", "tiny", "n" or "x-p6".
        arguments: of that family's `architecture` function: num_classes, num_keypoints, ...

    Raises:
        ValueError: there is no such family or size.
    """
    if family not in ARCHITECTURES:
        raise ValueError(f"family must be one of {', '.join(ARCHITECTURES)}, got {family!r}")
    sizes = ARCHITECTURES[family]
    if size not in sizes:
        raise ValueError(f"size of {family} must be one of {', '.join(sizes)}, got {size!r}")
    return sizes[size](**arguments)


def random_network(description: NetworkDescription, *, seed: int = 0) -> PoseNetwork:
    """A network with random weights, the same for the same seed.

    Args:
        description: what it is made of.
        seed: of the random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    for index, layer in enumerate(description.layers):
        for name, like in build(layer.block).state_dict().items():
            weights[f"model.{index}.{name}"] = _random(name, like.shape, generator)
    return PoseNetwork(description, weights)


def _random(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    kind = name.rpartition(".")[2]
    if kind == "anchor_grid":
        return torch.tensor(yolov5.ANCHORS, dtype=torch.float32).view(shape)
    if kind in ("bias", "running_mean", "implicit") and "im." not in name:
        return torch.zeros(shape)
    if len(shape) == 4 and kind == "weight":  # He et al. 2015: the output varies as the input does
        scale = (2 / math.prod(shape[1:])) ** 0.5
        return torch.randn(shape, generator=generator) * scale
    return torch.ones(shape)
