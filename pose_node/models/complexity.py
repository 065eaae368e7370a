"""How large a network is, and how much it computes."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from pose_node.models.network import PoseNetwork
from pose_node.models.nodes import NetworkDescription, Node


def count_parameters(description: NetworkDescription, *, fused: bool = False) -> int:
    """Parameters of a network, from its description.

    Args:
        description: the network.
        fused: count as if batch normalisation were folded into the convolutions.
    """
    return sum(_count(layer.block, fused) for layer in description.layers)


def _count(node: Node, fused: bool) -> int:
    settings = node.settings
    total = sum(
        _count(part, fused)
        for part in node.parts.values()
        if not (fused and part.kind == "BatchNorm2d")
    )
    match node.kind:
        case "Conv2d":
            inputs, outputs = settings["in_channels"], settings["out_channels"]
            kernel = math.prod(settings["kernel_size"])
            total += inputs * outputs * kernel // settings["groups"]
            total += outputs if settings["bias"] else 0
        case "BatchNorm2d":
            total += 2 * settings["num_features"]
        case "Linear":
            total += (settings["in_features"] + 1) * settings["out_features"]
        case "ImplicitA" | "ImplicitM":
            total += settings["channel"]
    if fused and "bn" in node.parts:  # the convolution gets a bias instead
        total += node.parts["bn"].settings["num_features"]
    return total


@torch.inference_mode()
def count_macs(network: PoseNetwork, height: int, width: int) -> int:
    """Multiply-accumulate operations of all convolutions for one input. Nothing is computed.

    Args:
        network: stays as it is.
        height, width: of the input in pixels, multiples of the network's stride.
    """
    total = 0

    def add(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += output.numel() * math.prod(module.weight.shape[1:])

    ghost = copy.deepcopy(network).to("meta")
    for module in ghost.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(add)
    ghost(torch.zeros(1, 3, height, width, device="meta"))
    return total
