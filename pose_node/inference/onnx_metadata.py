"""What an exported model says about itself, in the metadata of its file.

Exports of Ultralytics carry Python literals as text (``stride``, ``names``, ``kpt_shape``, ...);
those of this package the same, and JSON under ``pose_node`` with what has no place there. The other
tools write nothing.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pose_node.models.preprocessing import Preprocessing

FORMAT_VERSION = 1
OWN_KEY = "pose_node"
_MAX_TEXT = 100_000  # characters of one value
_MAX_CLASSES = 10_000


@dataclass(frozen=True)
class FileFacts:
    """What a file says; the defaults mean that it says nothing.

    Attributes:
        family: "yolov8", "yolo11", ...
        layout: name of the layout of its outputs (`pose_node.inference.onnx_layouts`).
        strides: input pixels per cell, for each level; or the largest alone.
        keypoint_shape: number of keypoints, and 3 for x, y and score or 2 for x, y.
        class_names: of each class.
        final: whether duplicates are suppressed already.
        image_size: height and width in pixels that it was made for.
        preprocessing: how it wants its images.
    """

    family: str = ""
    layout: str | None = None
    strides: tuple[int, ...] = ()
    keypoint_shape: tuple[int, int] | None = None
    class_names: tuple[str, ...] = ()
    final: bool = False
    image_size: tuple[int, int] | None = None
    preprocessing: Preprocessing | None = None


def read_metadata(properties: Mapping[str, str]) -> FileFacts:
    """Read the metadata of an exported model.

    Args:
        properties: names and values, all text.

    Raises:
        ValueError: a value is not what its name promises, or the model is not for poses.
    """
    task = properties.get("task", "pose")
    if task != "pose":
        raise ValueError(f"it is a model for {task!r:.40}, expected one for 'pose'")
    own = _read_own(properties[OWN_KEY]) if OWN_KEY in properties else {}
    settings = _literal(properties, "args")
    return FileFacts(
        family=own.get("family") or _family(properties),
        layout=own.get("layout"),
        strides=own.get("strides") or _strides(properties),
        keypoint_shape=_keypoint_shape(properties),
        class_names=_class_names(properties),
        final=_literal(properties, "end2end") is True
        or (isinstance(settings, dict) and settings.get("nms") is True),
        image_size=_image_size(properties),
        preprocessing=own.get("preprocessing"),
    )


def write_metadata(
    facts: FileFacts, *, description: str, licence: str, version: str, batch: int, dynamic: bool
) -> dict[str, str]:
    """The metadata of an export of ours, so that `read_metadata` gives `facts` back.

    Args:
        facts: complete: preprocessing, keypoint shape, image size and strides are there.
        description: what the model is, in a line.
        licence: of the weights.
        version: of this package.
        batch: images that an input holds.
        dynamic: whether number and size of the images are free.
    """
    assert facts.preprocessing is not None
    assert facts.keypoint_shape is not None
    assert facts.image_size is not None
    own = {
        "format": FORMAT_VERSION,
        "family": facts.family,
        "layout": facts.layout,
        "strides": facts.strides,
        "preprocessing": asdict(facts.preprocessing),
    }
    return {
        "description": description,
        "author": "pose_node",
        "version": version,
        "license": licence,
        "task": "pose",
        "stride": str(max(facts.strides)),
        "batch": str(batch),
        "channels": "3",
        "imgsz": str(list(facts.image_size)),
        "names": str(dict(enumerate(facts.class_names))),
        "kpt_shape": str(list(facts.keypoint_shape)),
        "end2end": str(facts.final),
        "dynamic": str(dynamic),
        OWN_KEY: json.dumps(own),
    }


def _literal(properties: Mapping[str, str], name: str) -> Any:
    """A value as the Python literal that it is; None if it is missing."""
    text = properties.get(name)
    if text is None:
        return None
    if len(text) <= _MAX_TEXT:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            pass
    raise ValueError(f"its metadata {name!r} is no Python literal: {text!r:.80}")


def _integers(value: object, count: int, limit: int) -> tuple[int, ...] | None:
    """`value` if it is so many numbers from 1 to `limit`."""
    if isinstance(value, (list, tuple)) and len(value) == count:
        numbers = tuple(number for number in value if type(number) is int and 0 < number <= limit)
        if len(numbers) == count:
            return numbers
    return None


def _strides(properties: Mapping[str, str]) -> tuple[int, ...]:
    value = _literal(properties, "stride")
    if value is None:
        return ()
    if isinstance(value, float) and value.is_integer():  # older exports
        value = int(value)
    if strides := _integers([value], 1, 1024):
        return strides
    raise ValueError(f"its metadata 'stride' must be a number from 1 to 1024, got {value!r:.80}")


def _keypoint_shape(properties: Mapping[str, str]) -> tuple[int, int] | None:
    value = _literal(properties, "kpt_shape")
    if value is None:
        return None
    shape = _integers(value, 2, 1000)
    if shape and shape[1] in (2, 3):
        return shape[0], shape[1]
    raise ValueError(
        f"its metadata 'kpt_shape' must be [number of keypoints, 2 or 3], got {value!r:.80}"
    )


def _image_size(properties: Mapping[str, str]) -> tuple[int, int] | None:
    value = _literal(properties, "imgsz")
    if value is None:
        return None
    size = _integers([value, value] if isinstance(value, int) else value, 2, 1 << 16)
    if size:
        return size[0], size[1]
    raise ValueError(f"its metadata 'imgsz' must be [height, width], got {value!r:.80}")


def _class_names(properties: Mapping[str, str]) -> tuple[str, ...]:
    value = _literal(properties, "names")
    if value is None:
        return ()
    if isinstance(value, dict):
        try:
            value = [value[index] for index in range(len(value))]
        except KeyError:
            value = None
    if isinstance(value, list) and 0 < len(value) <= _MAX_CLASSES:
        return tuple(str(name)[:80] for name in value)
    raise ValueError(
        f"its metadata 'names' must name the classes 0, 1, 2, ..., got {properties['names']!r:.80}"
    )


def _family(properties: Mapping[str, str]) -> str:
    if properties.get("head") == "Pose26":
        return "yolo26"
    match = re.search(r"\bYOLO(v8|11|26)", properties.get("description", ""), re.IGNORECASE)
    return f"yolo{match[1].lower()}" if match else ""


def _read_own(text: str) -> dict[str, Any]:
    try:
        own = json.loads(text[:_MAX_TEXT])
        if own["format"] != FORMAT_VERSION:
            raise ValueError(f"it has format {own['format']!r:.40}, expected {FORMAT_VERSION}")
        strides = _integers(own["strides"], len(own["strides"]), 1024)
        order, scale = own["preprocessing"]["channel_order"], own["preprocessing"]["scale"]
        if not strides or order not in ("rgb", "bgr") or not 0 < float(scale) <= 1:
            raise ValueError("a value is out of its range")
        return {
            "family": str(own["family"])[:40],
            "layout": str(own["layout"])[:40],
            "strides": strides,
            "preprocessing": Preprocessing(
                channel_order=order,
                scale=float(scale),
                centred=bool(own["preprocessing"]["centred"]),
                square=bool(own["preprocessing"]["square"]),
            ),
        }
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"its metadata {OWN_KEY!r} cannot be used: {error!r:.200}") from error
