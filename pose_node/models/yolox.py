"""YOLOX with keypoints (edgeai-yolox human pose): its head, its network, and reading its files.

Ge et al. 2021, "YOLOX: Exceeding YOLO Series in 2021"; keypoint branch: Maji et al. 2022.
Its files hold bare weights: width, depth and first layer follow from their shapes, the activation
cannot and is taken from the published configurations.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from pose_node.models.heads import Head, cells
from pose_node.models.node_makers import (
    LayerList,
    MakeConvolution,
    c3,
    conv2d,
    convolution,
    max_pool,
    numbered,
    sequential,
)
from pose_node.models.nodes import MAX_PARTS, DescriptionError, NetworkDescription, Node
from pose_node.models.preprocessing import Preprocessing


class CellMaps(NamedTuple):
    """Raw output of the head for one feature map of H x W cells.

    Attributes:
        boxes: (B, 4, H, W): centre relative to the cell, and logarithm of the size, in cells.
        objectness: (B, 1, H, W) logits.
        classes: (B, num_classes, H, W) logits.
        keypoints: (B, 3K, H, W): x, y relative to the cell and visibility.
    """

    boxes: Tensor
    objectness: Tensor
    classes: Tensor
    keypoints: Tensor


class YoloxHead(Head):
    """One prediction for every cell of every feature map, from three branches over one stem.

    Args:
        stems: for each feature map, the convolution that all branches share.
        cls_convs, reg_convs, kpts_convs: for each feature map, the convolutions of each branch.
        cls_preds, reg_preds, obj_preds, kpts_preds: for each feature map, the predictions; that of
            objectness reads the branch of boxes.
    """

    PREPROCESSING: ClassVar[Preprocessing] = Preprocessing(
        channel_order="bgr", scale=1.0, centred=False, square=True
    )

    def __init__(
        self,
        stems: Sequence[nn.Module],
        cls_convs: Sequence[nn.Module],
        reg_convs: Sequence[nn.Module],
        kpts_convs: Sequence[nn.Module],
        cls_preds: Sequence[nn.Module],
        reg_preds: Sequence[nn.Module],
        obj_preds: Sequence[nn.Module],
        kpts_preds: Sequence[nn.Module],
    ) -> None:
        super().__init__()
        self.stems = stems
        self.cls_convs = cls_convs
        self.reg_convs = reg_convs
        self.kpts_convs = kpts_convs
        self.cls_preds = cls_preds
        self.reg_preds = reg_preds
        self.obj_preds = obj_preds
        self.kpts_preds = kpts_preds
        classes, keypoints = (_width(parts) for parts in (cls_preds, kpts_preds))
        if keypoints % 3:
            raise ValueError(f"the head must predict x, y and visibility, got {keypoints} numbers")
        self.num_classes = classes
        self.num_keypoints = keypoints // 3
        self.keypoint_dimensions = 3

    def forward(self, features: Sequence[Tensor]) -> list[CellMaps]:
        raw = []
        for level, feature in enumerate(features):
            stem = self.stems[level](feature)
            boxes = self.reg_convs[level](stem)
            maps = CellMaps(
                boxes=self.reg_preds[level](boxes),
                objectness=self.obj_preds[level](boxes),
                classes=self.cls_preds[level](self.cls_convs[level](stem)),
                keypoints=self.kpts_preds[level](self.kpts_convs[level](stem)),
            )
            raw.append(maps)
        return raw

    def check(self, raw: Sequence[CellMaps]) -> None:
        """See `Head.check`."""
        expected = (4, 1, self.num_classes, 3 * self.num_keypoints)
        for maps in raw:
            found = tuple(part.shape[1] for part in maps)
            if found != expected:
                raise ValueError(
                    f"the head's maps must have {expected} channels for boxes, objectness, classes "
                    f"and keypoints, got {found}"
                )

    def decode(self, raw: Sequence[CellMaps], strides: Sequence[int]) -> Tensor:
        """See `Head.decode`."""
        rows = []
        for maps in raw:
            scores = (maps.objectness.sigmoid(), maps.classes.sigmoid())
            rows.append(torch.cat((maps.boxes, *scores, maps.keypoints), 1).flatten(2))
        # Not int(...) of them: a recorded graph would keep the sizes that it was recorded with.
        sizes = [(maps.boxes.shape[2], maps.boxes.shape[3]) for maps in raw]
        joined = torch.cat(rows, 2).transpose(1, 2)
        return decode_cells(joined, strides, sizes, num_classes=self.num_classes)


def decode_cells(
    rows: Tensor,
    strides: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    *,
    num_classes: int = 1,
) -> Tensor:
    """Turn undecoded rows into boxes, scores and keypoints in pixels of the input.

    Args:
        rows: (B, A, 5 + num_classes + 3K), level by level, row by row: centre and logarithm of the
            size in cells, objectness and class scores in 0..1, keypoints as x, y, visibility.
        strides: input pixels per cell, for each level.
        sizes: height and width of each level in cells; A is the sum of their products.
        num_classes: classes of objects.

    Returns:
        (B, A, 4 + num_classes + 3K): x1 y1 x2 y2, class scores with objectness multiplied in,
        keypoints with their score in 0..1.
    """
    cell = torch.cat([cells(height, width, rows) for height, width in sizes], 1).T
    stride = torch.cat(
        [rows.new_full((h * w, 1), float(s)) for (h, w), s in zip(sizes, strides, strict=True)]
    )
    centre = (rows[..., :2] + cell) * stride
    size = rows[..., 2:4].exp() * stride
    scores = rows[..., 4:5] * rows[..., 5 : 5 + num_classes]
    points = rows[..., 5 + num_classes :].reshape(*rows.shape[:2], -1, 3)
    xy = (points[..., :2] * 2 - 0.5 + cell[:, None]) * stride[:, None]
    # The network's own decoding treats visibility like a coordinate; its loss takes that number as
    # a logit, and so it is one.
    visible = ((points[..., 2:] * 2 - 0.5) * stride[:, None]).sigmoid()
    located = torch.cat((xy, visible), -1).flatten(2)
    return torch.cat((centre - size / 2, centre + size / 2, scores, located), -1)


def _width(predictions: Sequence[nn.Module]) -> int:
    """Channels that a branch predicts, on every level the same."""
    widths = {part.out_channels if isinstance(part, nn.Conv2d) else 0 for part in predictions}
    if len(widths) != 1 or 0 in widths:
        raise ValueError("the head must predict by convolutions of one width on all levels")
    return int(widths.pop())


# --- The network ----------------------------------------------------------------------------------

# Name in the file of each layer of the network below; joining and enlarging layers have no weights.
_LAYER_NAMES = (
    *("backbone.backbone.stem", "backbone.backbone.dark2.0", "backbone.backbone.dark2.1"),
    *("backbone.backbone.dark3.0", "backbone.backbone.dark3.1"),
    *("backbone.backbone.dark4.0", "backbone.backbone.dark4.1"),
    *("backbone.backbone.dark5.0", "backbone.backbone.dark5.1", "backbone.backbone.dark5.2"),
    *("backbone.lateral_conv0", "", "", "backbone.C3_p4"),
    *("backbone.reduce_conv1", "", "", "backbone.C3_p3"),
    *("backbone.bu_conv2", "", "backbone.C3_n3", "backbone.bu_conv1", "", "backbone.C3_n4"),
    "head",
)
# What this project's blocks call their parts, in the order in which the words are replaced.
_PART_NAMES = ((".conv1.", ".cv1."), (".conv2.", ".cv2."), (".conv3.", ".cv3."))


def architecture(
    *,
    channels: int,
    depth: int,
    head_channels: int,
    lite: bool = False,
    activation: str = "SiLU",
    normalised: bool = True,
    num_classes: int = 1,
    num_keypoints: int = 17,
) -> NetworkDescription:
    """The network with given widths and depths.

    Args:
        channels: of the first layer, 64 times the published width.
        depth: repeated blocks of the shallowest stage, three times the published depth, rounded.
        head_channels: of the branches of the head, 256 times the published width.
        lite: whether the first layer is two convolutions in the place of folding.
        activation: "SiLU" or "ReLU".
        normalised: whether batch normalisation is separate.
        num_classes: classes of objects.
        num_keypoints: keypoints of each person.
    """

    conv = functools.partial(convolution, activation=activation, normalised=normalised)
    stage = functools.partial(c3, conv=conv)
    c = channels
    if lite:
        stem = sequential(conv(3, 12, 3, 2), conv(12, c, 3))
    else:
        stem = Node("Focus", {}, {"conv": conv(12, c, 3)})
    pools = numbered("ModuleList", [max_pool(kernel) for kernel in (5, 9, 13)])
    pooling = Node("SPP", {}, {"cv1": conv(16 * c, 8 * c), "cv2": conv(32 * c, 16 * c), "m": pools})
    net = LayerList()
    net.add(stem, c)
    for width, repeats in ((2 * c, depth), (4 * c, 3 * depth), (8 * c, 3 * depth)):
        net.add(conv(net.width, width, 3, 2), width)
        net.add(stage(width, width, repeats), width)
    net.add(conv(8 * c, 16 * c, 3, 2), 16 * c)
    net.add(pooling, 16 * c)
    net.add(stage(16 * c, 16 * c, depth, add=False), 16 * c)
    laterals, outputs = [], []
    for width, joined in ((8 * c, 6), (4 * c, 4)):
        laterals.append(net.add(conv(net.width, width), width))
        net.upsample()
        net.concat(-1, joined)
        net.add(stage(net.width, width, depth, add=False), width)
    outputs.append(len(net.layers) - 1)
    for lateral in reversed(laterals):
        net.add(conv(net.width, net.width, 3, 2), net.width)
        net.concat(-1, lateral)
        outputs.append(net.add(stage(net.width, net.width, depth, add=False), net.width))
    widths = [net.widths[index] for index in outputs]
    net.add(_head(conv, widths, head_channels, num_classes, 3 * num_keypoints), 0, *outputs)
    return NetworkDescription("yolox", tuple(net.layers), ())


def _head(
    conv: MakeConvolution, features: Sequence[int], hidden: int, classes: int, points: int
) -> Node:
    branch = sequential(conv(hidden, hidden, 3), conv(hidden, hidden, 3))
    outputs = {"cls_preds": classes, "reg_preds": 4, "obj_preds": 1, "kpts_preds": points}
    parts = {"stems": numbered("ModuleList", [conv(width, hidden) for width in features])}
    for name in ("cls_convs", "reg_convs", "kpts_convs"):
        parts[name] = numbered("ModuleList", [branch] * len(features))
    for name, width in outputs.items():
        parts[name] = numbered("ModuleList", [conv2d(hidden, width)] * len(features))
    return Node("YoloxHead", {}, parts)


def describe_weights(
    shapes: Mapping[str, tuple[int, ...]], activation: str | None = None
) -> tuple[NetworkDescription, dict[str, str]]:
    """The network that bare weights belong to.

    Args:
        shapes: shape of every tensor, by its name in the file.
        activation: "SiLU" or "ReLU"; None takes that of the published configurations: ReLU for
            "lite" networks, which have no folding, SiLU for the others.

    Returns:
        The description, and for each of its weights the name in the file.

    Raises:
        DescriptionError: these are not the weights of such a network.
    """

    def shape(name: str) -> tuple[int, ...]:
        found = shapes.get(name, ())
        if len(found) != 4:
            raise DescriptionError(
                f"{name} should be the weights of a convolution, got shape {found}"
            )
        return found

    stem = "backbone.backbone.stem"
    lite = f"{stem}.0.conv.weight" in shapes
    if f"{stem}.0.conv.weight" not in shapes and f"{stem}.conv.conv.weight" not in shapes:
        raise DescriptionError(
            "it holds bare weights, which do not say what network they belong to; expected those "
            "of a YOLOX human pose network"
        )
    depth = len({n.split(".")[5] for n in shapes if n.startswith("backbone.backbone.dark2.1.m.")})
    if not 1 <= 3 * depth <= MAX_PARTS:
        raise DescriptionError(f"its stages repeat {depth} blocks, expected 1 to {MAX_PARTS // 3}")
    description = architecture(
        channels=shape(f"{stem}.1.conv.weight" if lite else f"{stem}.conv.conv.weight")[0],
        depth=depth,
        head_channels=shape("head.stems.0.conv.weight")[0],
        lite=lite,
        activation=activation or ("ReLU" if lite else "SiLU"),
        normalised="backbone.lateral_conv0.bn.weight" in shapes,
        num_classes=shape("head.cls_preds.0.weight")[0],
        num_keypoints=shape("head.kpts_preds.0.weight")[0] // 3,
    )
    names = {_our_name(name): name for name in shapes}
    return description, names


def _our_name(name: str) -> str:
    """The name of a weight in our network, given that in the file; unknown ones stay."""
    for index, layer_name in enumerate(_LAYER_NAMES):
        if layer_name and name.startswith(f"{layer_name}."):
            rest = name[len(layer_name) :]
            for theirs, ours in _PART_NAMES:
                rest = rest.replace(theirs, ours)
            return f"model.{index}{rest}"
    return name
