"""Descriptions of the blocks that published architectures are written with.

Each function gives the `Node` that a checkpoint's record of the same block gives, with the weights'
own names. Widths are numbers of channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from pose_node.models.nodes import Layer, Node

BATCH_NORM_EPS = 1e-3
"""Of all YOLO families; torch's own default is another."""


MakeConvolution = Callable[..., Node]
"""`convolution`, or the same with another activation."""


def width_of(channels: float, factor: float, largest: float = math.inf) -> int:
    """A published width, cut to `largest`, scaled and rounded up to a multiple of 8."""
    return math.ceil(min(channels, largest) * factor / 8) * 8


def depth_of(repeats: int, factor: float) -> int:
    """A published number of repeated blocks, scaled."""
    return max(round(repeats * factor), 1) if repeats > 1 else repeats


def conv2d(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, bias: bool = True
) -> Node:
    """A plain convolution that keeps the size of the map at a stride of 1."""
    settings = {
        "in_channels": inputs,
        "out_channels": outputs,
        "kernel_size": [kernel, kernel],
        "stride": [stride, stride],
        "padding": [kernel // 2, kernel // 2],
        "dilation": [1, 1],
        "groups": groups,
        "bias": bias,
    }
    return Node("Conv2d", settings)


def convolution(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    stride: int = 1,
    *,
    groups: int = 1,
    activation: str = "SiLU",
    normalised: bool = True,
) -> Node:
    """Convolution, batch normalisation, activation; or fused, with a bias instead of the second."""
    parts = {"conv": conv2d(inputs, outputs, kernel, stride, groups, bias=not normalised)}
    if normalised:
        parts["bn"] = Node("BatchNorm2d", {"num_features": outputs, "eps": BATCH_NORM_EPS})
    parts["act"] = Node(activation)
    return Node("Conv", {}, parts)


def depthwise(inputs: int, outputs: int, activation: str = "SiLU") -> Node:
    """A 3 x 3 convolution with as many groups as its widths allow."""
    groups = math.gcd(inputs, outputs)
    return convolution(inputs, outputs, 3, groups=groups, activation=activation)


def numbered(kind: str, nodes: Iterable[Node]) -> Node:
    """A "Sequential" or "ModuleList" of nodes."""
    return Node(kind, {}, {str(index): node for index, node in enumerate(nodes)})


def sequential(*nodes: Node) -> Node:
    """Nodes one after the other."""
    return numbered("Sequential", nodes)


def max_pool(kernel: int) -> Node:
    """A maximum over a window that keeps the size of the map."""
    return Node("MaxPool2d", {"kernel_size": kernel, "stride": 1, "padding": kernel // 2})


def bottleneck(
    inputs: int,
    outputs: int,
    hidden: int,
    *,
    kernels: tuple[int, int] = (3, 3),
    add: bool = True,
    conv: MakeConvolution = convolution,
) -> Node:
    """Two convolutions; the input is added to the output where that fits and `add` says so."""
    parts = {
        "cv1": conv(inputs, hidden, kernels[0]),
        "cv2": conv(hidden, outputs, kernels[1]),
    }
    return Node("Bottleneck", {"add": add and inputs == outputs}, parts)


def c3(
    inputs: int,
    outputs: int,
    repeats: int,
    *,
    kernels: tuple[int, int] = (1, 3),
    add: bool = True,
    conv: MakeConvolution = convolution,
    kind: str = "C3",
) -> Node:
    """A cross-stage partial block, or a "C3k"."""
    hidden = outputs // 2
    repeated = bottleneck(hidden, hidden, hidden, kernels=kernels, add=add, conv=conv)
    parts = {
        "cv1": conv(inputs, hidden),
        "cv2": conv(inputs, hidden),
        "cv3": conv(2 * hidden, outputs),
        "m": sequential(*[repeated] * repeats),
    }
    return Node(kind, {}, parts)


class LayerList:
    """The layers of a network under construction, and how many channels each gives."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.widths: list[int] = []

    def add(self, block: Node, width: int, *inputs: int) -> int:
        """Append a block that gives `width` channels; it reads the layer before if none is named.

        Returns:
            Its index.
        """
        self.layers.append(Layer(inputs or (-1,), block))
        self.widths.append(width)
        return len(self.layers) - 1

    @property
    def width(self) -> int:
        """Channels of the last layer."""
        return self.widths[-1]

    def upsample(self) -> int:
        """Append a layer that doubles height and width."""
        return self.add(Node("Upsample", {"scale_factor": 2.0, "mode": "nearest"}), self.width)

    def concat(self, *inputs: int) -> int:
        """Append a layer that joins channels; -1 is the layer before."""
        width = sum(self.widths[index] for index in inputs)
        return self.add(Node("Concat", {"d": 1}), width, *inputs)
