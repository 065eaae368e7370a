"""YOLO11: C3k2 blocks and, after the pyramid pooling, self-attention over positions.

The head is that of YOLOv8 (`pose_node.models.yolov8.PoseHead`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pose_node.models.blocks import C3, Block, C2f
from pose_node.models.node_makers import (
    LayerList,
    bottleneck,
    c3,
    conv2d,
    convolution,
    depth_of,
    depthwise,
    numbered,
    sequential,
    width_of,
)
from pose_node.models.nodes import NetworkDescription, Node
from pose_node.models.yolov8 import pooling, pose_head, pyramid


class C3k(C3):
    """A C3 block whose bottlenecks have kernels of any size."""


class C3k2(C2f):
    """A C2f block whose parts are bottlenecks or C3k blocks, as the checkpoint records."""


class Attention(Block):
    """Multi-head self-attention over all positions of a feature map, keys half as wide as values.

    Args:
        qkv: 1x1 convolution to query, key and value of all heads.
        proj: 1x1 convolution of the result.
        pe: depthwise convolution of the values, which tells the positions apart.
        num_heads: number of heads h; each has 2 * key_dim + head_dim channels of `qkv`.
        key_dim: channels of one head's query, and of its key.
        head_dim: channels of one head's value.
    """

    SETTINGS = ("num_heads", "key_dim", "head_dim")

    def __init__(
        self,
        qkv: nn.Module,
        proj: nn.Module,
        pe: nn.Module,
        num_heads: int,
        key_dim: int,
        head_dim: int,
    ) -> None:
        super().__init__()
        self.qkv = qkv
        self.proj = proj
        self.pe = pe
        self.num_heads = int(num_heads)
        self.key_dim = int(key_dim)
        self.head_dim = int(head_dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        query, key, value = (
            self.qkv(x)
            .view(batch, self.num_heads, 2 * self.key_dim + self.head_dim, height * width)
            .split((self.key_dim, self.key_dim, self.head_dim), dim=2)
        )  # each (B, h, channels of a head, H * W)
        weights = (query.transpose(2, 3) @ key * self.key_dim**-0.5).softmax(3)
        attended = (value @ weights.transpose(2, 3)).view(batch, channels, height, width)
        positions = self.pe(value.reshape(batch, channels, height, width))
        return self.proj(attended + positions)


class PSABlock(Block):
    """Attention and a two-layer feed-forward network, each added to its input."""

    SETTINGS = ("add",)

    def __init__(self, attn: nn.Module, ffn: nn.Module, add: bool) -> None:
        super().__init__()
        self.attn = attn
        self.ffn = ffn
        self.add = bool(add)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x) if self.add else self.attn(x)
        return x + self.ffn(x) if self.add else self.ffn(x)


class C2PSA(Block):
    """Sends half of the channels through attention blocks `m`, the other half around them."""

    def __init__(self, cv1: nn.Module, cv2: nn.Module, m: nn.Module) -> None:
        super().__init__()
        self.cv1 = cv1
        self.cv2 = cv2
        self.m = m

    def forward(self, x: Tensor) -> Tensor:
        around, through = self.cv1(x).chunk(2, 1)
        return self.cv2(torch.cat((around, self.m(through)), 1))


# --- The published networks -----------------------------------------------------------------------

SCALES = {
    "n": (0.5, 0.25, 1024),
    "s": (0.5, 0.50, 1024),
    "m": (0.5, 1.0, 512),
    "l": (1.0, 1.0, 512),
    "x": (1.0, 1.5, 512),
}
"""Depth, width and largest number of channels, before scaling, of the published sizes."""


def architecture(
    size: str,
    *,
    num_classes: int = 1,
    num_keypoints: int = 17,
    keypoint_dimensions: int = 3,
    training_parts: bool = False,
) -> NetworkDescription:
    """A published network. The arguments are those of `pose_node.models.yolov8.architecture`.

    Args:
        size: "n", "s", "m", "l" or "x".
        num_classes: classes of objects.
        num_keypoints: keypoints of each person.
        keypoint_dimensions: 3 for x, y and score, 2 for x and y.
        training_parts: describe also what only training needs.
    """
    net, outputs = body(size)
    head = pose_head(
        [net.widths[index] for index in outputs],
        num_classes=num_classes,
        keypoints=(num_keypoints, keypoint_dimensions),
        training_parts=training_parts,
        class_branch=class_branch,
    )
    net.add(head, 0, *outputs)
    return NetworkDescription("yolo11", tuple(net.layers), ())


def body(size: str, *, yolo26: bool = False) -> tuple[LayerList, list[int]]:
    """Describe everything but the head, which YOLO26 shares but for details.

    Returns:
        The layers, and the indices of those that the head reads, largest map first.
    """
    depth, factor, largest = SCALES[size]
    deep = size in "mlx"
    net = LayerList()

    def width(channels: int) -> int:
        return width_of(channels, factor, largest)

    def convolve(channels: int) -> int:
        return net.add(convolution(net.width, width(channels), 3, 2), width(channels))

    def stage(channels: int, *, nested: bool, hidden: float = 0.5, attention: bool = False) -> int:
        repeats = 1 if attention else depth_of(2, depth)
        block = c3k2(
            *(net.width, width(channels), repeats, int(width(channels) * hidden)),
            nested=nested or deep,
            attention=attention,
        )
        return net.add(block, width(channels))

    net.add(convolution(3, width(64), 3, 2), width(64))
    convolve(128)
    stage(256, nested=False, hidden=0.25)
    convolve(256)
    features = [stage(512, nested=False, hidden=0.25)]
    convolve(512)
    features.append(stage(512, nested=True))
    convolve(1024)
    stage(1024, nested=True)
    if yolo26:
        net.add(pooling(net.width, activation="Identity", add=True), net.width)
    else:
        net.add(pooling(net.width), net.width)
    net.add(c2psa(net.width, depth_of(2, depth)), net.width)
    outputs = pyramid(
        net,
        features,
        up=lambda channels: stage(channels, nested=yolo26),
        down=lambda channels: stage(
            channels,
            nested=yolo26 or channels == 1024,
            attention=yolo26 and channels == 1024,
        ),
        convolve=convolve,
        channels=(256, 512, 1024),
    )
    return net, outputs


def c3k2(
    inputs: int, outputs: int, repeats: int, hidden: int, *, nested: bool, attention: bool = False
) -> Node:
    """Describe a "C3k2" block.

    Args:
        inputs, outputs: channels.
        repeats: number of its parts.
        hidden: channels of each part.
        nested: whether the parts are C3k blocks, or bottlenecks.
        attention: whether they are a bottleneck and attention.
    """
    narrow = bottleneck(hidden, hidden, hidden // 2)
    if attention:
        part = sequential(narrow, psa_block(hidden))
    else:
        part = c3(hidden, hidden, 2, kernels=(3, 3), kind="C3k") if nested else narrow
    parts = {
        "cv1": convolution(inputs, 2 * hidden),
        "cv2": convolution((2 + repeats) * hidden, outputs),
        "m": numbered("ModuleList", [part] * repeats),
    }
    return Node("C3k2", {}, parts)


def psa_block(width: int) -> Node:
    """Describe a "PSABlock"."""
    heads = max(width // 64, 1)
    head_dim = width // heads
    key_dim = head_dim // 2
    attention = Node(
        "Attention",
        {"num_heads": heads, "key_dim": key_dim, "head_dim": head_dim},
        {
            "qkv": convolution(width, width + 2 * key_dim * heads, activation="Identity"),
            "proj": convolution(width, width, activation="Identity"),
            "pe": depthwise(width, width, "Identity"),
        },
    )
    feed_forward = sequential(
        convolution(width, 2 * width), convolution(2 * width, width, activation="Identity")
    )
    return Node("PSABlock", {"add": True}, {"attn": attention, "ffn": feed_forward})


def c2psa(width: int, repeats: int) -> Node:
    """Describe a "C2PSA" block."""
    parts = {
        "cv1": convolution(width, width),
        "cv2": convolution(width, width),
        "m": sequential(*[psa_block(width // 2)] * repeats),
    }
    return Node("C2PSA", {}, parts)


def class_branch(inputs: int, hidden: int, outputs: int) -> Node:
    """Describe the convolutions of a branch of class scores."""
    return sequential(
        sequential(depthwise(inputs, inputs), convolution(inputs, hidden)),
        sequential(depthwise(hidden, hidden), convolution(hidden, hidden)),
        conv2d(hidden, outputs),
    )
