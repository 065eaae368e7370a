"""Heads and blocks refuse settings and parts that do not make a network."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from pose_node.models.architectures import describe_architecture, random_network
from pose_node.models.description import _plain, build
from pose_node.models.network import PoseNetwork
from pose_node.models.node_makers import conv2d, convolution, max_pool, numbered
from pose_node.models.nodes import DescriptionError, Layer, NetworkDescription, Node
from pose_node.models.yolov5 import Contract, fold_columns_first
from pose_node.models.yolov7 import ImplicitAnchorHead


def head_of(family: str, size: str) -> Node:
    """A copy of the published head, to be damaged."""
    return copy.deepcopy(describe_architecture(family, size).layers[-1].block)


def changed_settings(node: Node, **settings: Any) -> Node:
    node.settings.update(settings)
    return node


def without(node: Node, part: str) -> Node:
    del node.parts[part]
    return node


def one_level_less(node: Node, part: str) -> Node:
    node.parts[part].parts.popitem()
    return node


SPP = Node(
    "SPP",
    {},
    {
        "cv1": convolution(8, 8),
        "cv2": convolution(8, 8),
        "m": numbered("ModuleList", [max_pool(3)] * 9),
    },
)


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (changed_settings(head_of("yolov5", "s6"), nkpt=0), "got 0 keypoints, 3 anchors"),
        (changed_settings(head_of("yolov5", "s6"), na=17), "17 anchors"),
        (one_level_less(head_of("yolov5", "s6"), "m_kpt"), "4 and 3 branches for 4 levels"),
        (one_level_less(head_of("yolov7", "w6"), "ia"), "implicit knowledge for each level"),
        (Node("ImplicitA", {"channel": 0}), "channel must be 1 to 16384, got 0"),
        (one_level_less(head_of("yolo26", "n"), "cv4_kpts"), "as many keypoint branches"),
        (SPP, "pools over 9 windows, expected at most 8"),
        (Node("Contract", {"gain": 4}), "it must fold by 2, got 4"),
        (
            changed_settings(head_of("yolo11", "n"), kpt_shape=[17, 4]),
            r"kpt_shape must be \(keypoints, 2 or 3\)",
        ),
    ],
)
def test_what_makes_no_head_is_refused(node: Node, reason: str) -> None:
    with pytest.raises(DescriptionError, match=reason):
        build(node)


def test_incomplete_branches_of_both_kinds() -> None:
    node = without(without(head_of("yolo26", "n"), "cv4"), "one2one_cv2")
    with pytest.raises(DescriptionError, match="complete one-to-many or one-to-one branches"):
        build(node)


def test_branches_that_are_not_there() -> None:
    description = describe_architecture("yolo26", "n", one_to_one=False)
    weights = random_network(description).state_dict()
    with pytest.raises(DescriptionError, match="only one-to-many branches, so end_to_end must be"):
        PoseNetwork(description, weights, end_to_end=True)


@pytest.mark.parametrize(
    "boxes", [conv2d(256, 18, 3), conv2d(256, 18, bias=False), convolution(256, 18), conv2d(9, 18)]
)
def test_implicit_knowledge_goes_with_plain_convolutions(boxes: Node) -> None:
    node = head_of("yolov7", "w6")
    node.parts["m"].parts["0"] = boxes
    with pytest.raises(DescriptionError, match="1 x 1 convolutions of its width"):
        build(node)


def test_implicit_knowledge_is_folded_once() -> None:
    network = random_network(describe_architecture("yolov7", "w6")).fuse()
    head = network.head
    assert isinstance(head, ImplicitAnchorHead)
    before = [parameter.clone() for parameter in head.parameters()]
    head.fuse()
    for old, new in zip(before, head.parameters(), strict=True):
        assert torch.equal(old, new)


def test_the_two_orders_of_folding() -> None:
    """Groups by (row, column) of their first pixel."""
    pixels = torch.arange(4.0).view(1, 1, 2, 2)  # 0 1 / 2 3
    assert fold_columns_first(pixels).flatten().tolist() == [0, 2, 1, 3]
    assert Contract(2)(pixels).flatten().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("family", "size", "setting", "value"),
    [("yolov5", "s6", "nc", 2), ("yolov8", "n", "kpt_shape", [5, 3]), ("yolo26", "n", "nc", 3)],
)
def test_maps_of_other_widths_than_promised(
    family: str, size: str, setting: str, value: object
) -> None:
    description = describe_architecture(family, size)
    weights = random_network(description).state_dict()
    head = copy.deepcopy(description.layers[-1])
    head.block.settings[setting] = value
    layers = (*description.layers[:-1], head)
    with pytest.raises(DescriptionError, match="the head's maps must have"):
        PoseNetwork(NetworkDescription(family, layers, ()), weights)


def test_yolox_branches_of_different_widths() -> None:
    node = head_of("yolox", "tiny")
    node.parts["kpts_preds"].parts["1"] = conv2d(96, 50)
    with pytest.raises(DescriptionError, match="convolutions of one width on all levels"):
        build(node)
    for level in "012":
        node.parts["kpts_preds"].parts[level] = conv2d(96, 50)
    with pytest.raises(DescriptionError, match="must predict x, y and visibility, got 50 numbers"):
        build(node)


def test_anchors_keep_their_precision_in_half() -> None:
    network = random_network(describe_architecture("yolov5", "s6"))
    network.head.anchor_grid.fill_(1234.567)  # type: ignore[operator]
    network.half()
    anchors = network.head.anchor_grid
    assert isinstance(anchors, torch.Tensor)
    assert anchors.dtype == torch.float32
    assert anchors.flatten()[0].item() == pytest.approx(1234.567)


def test_a_head_that_reads_one_level() -> None:
    """Its maps are those of the first level of the whole network."""
    whole = random_network(describe_architecture("yolov8", "n"))
    head = copy.deepcopy(whole.description.layers[-1].block)
    for branch in head.parts.values():
        del branch.parts["1"], branch.parts["2"]
    layers = (*whole.description.layers[:-1], Layer((15,), head))
    single = PoseNetwork(NetworkDescription("yolov8", layers, ()), whole.state_dict())
    assert single.strides == (8,)
    images = torch.full((2, 3, 64, 64), 0.4)
    for expected, found in zip(whole(images)[0], single(images)[0], strict=True):
        torch.testing.assert_close(found, expected)


def test_settings_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DescriptionError, match="should be a number or a string"):
        _plain(float("nan"), "model.0.bn.eps")
