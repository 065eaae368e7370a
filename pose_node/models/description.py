"""From a checkpoint's records to a description, and from a description to modules."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from pose_node.models import blocks, yolo11, yolo26, yolov5, yolov7, yolov8, yolox
from pose_node.models.nodes import (
    MAX_CHANNELS,
    MAX_DEPTH,
    MAX_NODES,
    MAX_PARTS,
    DescriptionError,
    Node,
)
from pose_node.models.pickle_machine import Record, brief

# Kinds of torch.nn that are built from their settings alone.
_CONV2D = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
_TORCH_SETTINGS: dict[str, tuple[str, ...]] = {
    "Conv2d": _CONV2D,
    "BatchNorm2d": ("num_features", "eps"),
    "MaxPool2d": ("kernel_size", "stride", "padding"),
    "Upsample": ("scale_factor", "mode"),
    "LeakyReLU": ("negative_slope",),
    **dict.fromkeys(("SiLU", "ReLU", "Hardswish", "Identity", "Sequential", "ModuleList"), ()),
}

# Our class for each kind that a checkpoint may name. DWConv is a Conv with one group per channel,
# which its own record says.
_BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "Conv": blocks.Convolution,
    "DWConv": blocks.Convolution,
    "Bottleneck": blocks.Bottleneck,
    "C3": blocks.C3,
    "C2f": blocks.C2f,
    "SPPF": blocks.SPPF,
    "Concat": blocks.Concat,
    "C2": yolov8.C2,
    "Pose": yolov8.PoseHead,
    "Pose26": yolo26.Pose26Head,
    "C3k": yolo11.C3k,
    "C3k2": yolo11.C3k2,
    "Attention": yolo11.Attention,
    "PSABlock": yolo11.PSABlock,
    "C2PSA": yolo11.C2PSA,
    "Focus": yolov5.Focus,
    "Contract": yolov5.Contract,
    "ConvFocus": yolov5.ConvFocus,
    "SPP": yolov5.SPP,
    "Detect": yolov5.AnchorHead,
    "ReOrg": yolov7.ReOrg,
    "SPPCSPC": yolov7.SPPCSPC,
    "ImplicitA": yolov7.ImplicitA,
    "ImplicitM": yolov7.ImplicitM,
    "IKeypoint": yolov7.ImplicitAnchorHead,
    "YoloxHead": yolox.YoloxHead,
}


class RecordReader:
    """Describes the records of one checkpoint; counts them, since a hostile tree may be endless."""

    def __init__(self) -> None:
        self.visited = 0

    def describe(self, record: object, where: str, depth: int = 0) -> Node:
        """Describe the module that a record stands for.

        Args:
            record: from `pose_node.models.pickle_machine`.
            where: name of the module, for errors.
            depth: how deep it lies.

        Raises:
            DescriptionError: it holds an unknown module, or is too deep or too large.
        """
        self.visited += 1
        if depth > MAX_DEPTH or self.visited > MAX_NODES:
            raise DescriptionError(
                f"more than {MAX_DEPTH} levels or {MAX_NODES} modules, at {where!r:.120}"
            )
        if not isinstance(record, Record):
            raise DescriptionError(f"{where!r:.120} should be a module, got {brief(record)}")
        kind = record.short_name
        if kind not in _BLOCKS and kind not in _TORCH_SETTINGS:
            raise DescriptionError(
                f"{where!r:.120} is a {record.class_name!r:.120}, which is unknown"
            )
        if len(record.children) > MAX_PARTS:
            raise DescriptionError(f"{where!r:.120} has more than {MAX_PARTS} parts")
        ignored = getattr(_BLOCKS.get(kind), "IGNORED_PARTS", ())
        parts = {
            str(name): self.describe(part, f"{where}.{name}", depth + 1)
            for name, part in record.children.items()
            if part is not None and name not in ignored
        }
        return Node(kind, _settings(kind, record, where), parts)


def _settings(kind: str, record: Record, where: str) -> dict[str, Any]:
    attributes = record.attributes
    block = _BLOCKS.get(kind)
    names: tuple[str, ...] = _TORCH_SETTINGS.get(kind, getattr(block, "SETTINGS", ()))
    missing = [name for name in names if name not in attributes]
    if kind == "Detect" and "nkpt" in missing:
        raise DescriptionError("it is a detector of boxes, which knows no keypoints")
    if missing:
        raise DescriptionError(f"{where!r:.120} ({kind}) lacks {', '.join(missing)}")
    settings = {name: _plain(attributes[name], f"{where}.{name}") for name in names}
    for name, default in getattr(block, "OPTIONAL_SETTINGS", {}).items():
        settings[name] = _plain(attributes.get(name, default), f"{where}.{name}")
    if kind == "Conv2d":
        parameters = attributes.get("_parameters")
        settings["bias"] = isinstance(parameters, dict) and parameters.get("bias") is not None
        if attributes.get("padding_mode", "zeros") != "zeros":
            raise DescriptionError(f"{where!r:.120} pads with {brief(attributes['padding_mode'])}")
    return settings


def _plain(value: object, where: str) -> Any:
    """A setting must be a number, a string, or a short list of numbers."""
    if isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, (tuple, list)) and len(value) <= 8:
        return [_plain(item, where) for item in value if not isinstance(item, (tuple, list))]
    raise DescriptionError(f"{where!r:.120} should be a number or a string, got {brief(value)}")


def build(node: Node, where: str = "model") -> nn.Module:
    """Build the module that a node describes, its weights without memory (on torch's meta device).

    What joins or enlarges feature maps may only be a layer of its own, so that whoever runs the
    layers sees how large their outputs grow.

    Raises:
        DescriptionError: the kind is unknown, or settings and parts do not fit it.
    """
    if len(node.parts) > MAX_PARTS:
        raise DescriptionError(f"{where!r:.120} has more than {MAX_PARTS} parts")
    for name, part in node.parts.items():
        if part.kind in ("Upsample", "Concat"):
            raise DescriptionError(f"{where!r:.100}.{name:.20} is a {part.kind} within a block")
    ignored = getattr(_BLOCKS.get(node.kind), "IGNORED_PARTS", ())
    parts = {
        name: build(part, f"{where}.{name}")
        for name, part in node.parts.items()
        if name not in ignored
    }
    try:
        if node.kind in _TORCH_SETTINGS:
            return _build_torch(node.kind, dict(node.settings), parts)
        if node.kind in _BLOCKS:
            return _BLOCKS[node.kind](**parts, **node.settings)
    except (
        *(TypeError, ValueError, AttributeError, RuntimeError),
        *(ZeroDivisionError, OverflowError),
    ) as error:
        raise DescriptionError(f"{where!r:.120} ({node.kind}) cannot be built: {error}") from error
    raise DescriptionError(f"{where!r:.120} is a {node.kind!r:.80}, which is unknown")


def _build_torch(kind: str, settings: Mapping[str, Any], parts: dict[str, nn.Module]) -> nn.Module:
    if kind in ("Sequential", "ModuleList"):
        if list(parts) != [str(index) for index in range(len(parts))]:
            raise ValueError(f"its parts must be numbered from 0, got {list(parts)[:8]}")
        modules = list(parts.values())
        return nn.Sequential(*modules) if kind == "Sequential" else nn.ModuleList(modules)
    if parts:
        raise ValueError(f"it must have no parts, got {list(parts)[:8]}")
    _check_size(kind, settings)
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    if kind in _WEIGHTLESS:
        return _WEIGHTLESS[kind](device="meta", **values)
    return getattr(nn, kind)(**values)


class _Conv2d(nn.Conv2d):
    def reset_parameters(self) -> None:
        """Nothing: its weights come from a file, and inventing some takes longer than reading."""


class _BatchNorm2d(nn.BatchNorm2d):
    def reset_parameters(self) -> None:
        """Nothing, as above."""


_WEIGHTLESS: dict[str, type[nn.Module]] = {"Conv2d": _Conv2d, "BatchNorm2d": _BatchNorm2d}


def _check_size(kind: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings with which a small file could ask for more memory than there is."""
    if kind == "Upsample" and (settings["mode"], settings["scale_factor"]) != ("nearest", 2):
        raise ValueError(
            "it must double its input by nearest neighbour, got "
            f"{settings['mode']!r:.20} x {settings['scale_factor']!r:.20}"
        )
    if "padding" in settings:
        kernels, paddings = _pair(settings["kernel_size"]), _pair(settings["padding"])
        if any(padding > kernel for kernel, padding in zip(kernels, paddings, strict=True)):
            raise ValueError(f"it pads by {paddings} around a kernel of {kernels}")
    for name in ("in_channels", "out_channels", "num_features"):
        if name in settings and not 0 < settings[name] <= MAX_CHANNELS:
            raise ValueError(f"{name} must be 1 to {MAX_CHANNELS}, got {settings[name]!r:.20}")


def _pair(value: Any) -> tuple[int, int]:
    first, second = value if isinstance(value, list) else (value, value)
    return int(first), int(second)
