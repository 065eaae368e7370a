"""Writes small checkpoints byte by byte, as ``torch.save`` would, without the classes they name."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from pose_node.models.description import build
from pose_node.models.node_makers import (
    conv2d,
    convolution,
    max_pool,
    numbered,
    sequential,
)
from pose_node.models.nodes import Layer, NetworkDescription, Node
from pose_node.models.pickle_machine import Name, Record, StorageReference, TensorReference

STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage"}


def text(value: str) -> bytes:
    """Puts a string on the stack."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def named(name: str) -> bytes:
    """Puts a class or function on the stack."""
    module, _, last = name.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def encode(value: Any, memo: dict[bytes, int] | None = None) -> bytes:
    """The operations that put a value on the stack: the inverse of `read_pickle`.

    With a memo, strings and names are written once, as a real pickle does it.
    """

    def each(values: Iterable[Any]) -> bytes:
        return b"".join(encode(one, memo) for one in values)

    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int() if 0 <= value < 256:
            return b"K" + bytes([value])
        case int():
            return b"\x8a\x10" + value.to_bytes(16, "little", signed=True)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return _once(text(value), memo)
        case bytes():
            return b"B" + struct.pack("<I", len(value)) + value
        case tuple():
            return b"(" + each(value) + b"t"
        case list():
            return b"](" + each(value) + b"e"
        case dict():
            return b"}(" + each(part for item in value.items() for part in item) + b"u"
        case Name():
            return _once(named(str(value)), memo)
        case Record():
            made = _once(named(value.class_name), memo) + b")\x81"
            return made + encode(value.attributes, memo) + b"b"
        case TensorReference(StorageReference(dtype, key, numel), offset, shape, strides):
            kind = Name("torch", STORAGES.get(dtype, dtype))
            storage = encode(("storage", kind, key, "cpu", numel), memo)
            rest = each((offset, shape, strides, False))
            rebuild = _once(named("torch._utils._rebuild_tensor_v2"), memo)
            return rebuild + b"(" + storage + b"Q" + rest + b"tR"
    raise TypeError(f"cannot write {type(value).__name__}")


def _once(operations: bytes, memo: dict[bytes, int] | None) -> bytes:
    if memo is None:
        return operations
    if operations in memo:
        return b"j" + struct.pack("<I", memo[operations])
    memo[operations] = len(memo)
    return operations + b"r" + struct.pack("<I", memo[operations])


def pickled(value: Any) -> bytes:
    """A pickle of protocol 2."""
    return b"\x80\x02" + encode(value, {}) + b"."


def archived(members: Mapping[str, bytes]) -> bytes:
    """An archive of members as they are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def tiny_description() -> NetworkDescription:
    """A network that is as small as can be, and has a block of most kinds."""
    bottleneck = Node("Bottleneck", {"add": True}, {"cv1": convolution(4, 4), "cv2": conv(4, 4)})
    c3k2 = {
        "cv1": convolution(8, 8),
        "cv2": convolution(12, 8),
        "m": numbered(
            "ModuleList",
            [
                bottleneck,
            ],
        ),
    }
    sppf = {"cv1": convolution(8, 4), "cv2": convolution(16, 8), "m": max_pool(5)}
    attention = Node(
        "Attention",
        {"num_heads": 1, "key_dim": 2, "head_dim": 4},
        {
            "qkv": convolution(4, 8, activation="Identity"),
            "proj": convolution(4, 4, activation="Identity"),
            "pe": convolution(4, 4, 3, groups=4, activation="Identity"),
        },
    )
    block = Node("PSABlock", {"add": True}, {"attn": attention, "ffn": sequential(conv(4, 4))})
    c2psa = {"cv1": convolution(8, 8), "cv2": convolution(8, 8), "m": sequential(block)}
    head = Node(
        "Pose",
        {"kpt_shape": [2, 3], "reg_max": 2, "nc": 1},
        {
            "cv2": numbered("ModuleList", [conv2d(8, 8), conv2d(8, 8)]),
            "cv3": numbered("ModuleList", [conv2d(8, 1), conv2d(8, 1)]),
            "cv4": numbered("ModuleList", [conv2d(8, 6), conv2d(8, 6)]),
        },
    )
    layers = (
        layer(convolution(3, 8, 3, 2)),
        layer(convolution(8, 8, 3, 2)),
        layer(Node("C3k2", {}, c3k2)),
        layer(convolution(8, 8, 3, 2)),
        layer(Node("SPPF", {}, sppf)),
        layer(Node("C2PSA", {}, c2psa)),
        layer(Node("Upsample", {"scale_factor": 2.0, "mode": "nearest"})),
        layer(Node("Concat", {"d": 1}), -1, 2),
        layer(convolution(16, 8)),
        layer(head, 8, 5),
    )
    return NetworkDescription("yolo11", layers, ("person",))


def layer(block: Node, *inputs: int) -> Layer:
    return Layer(inputs or (-1,), block)


def conv(inputs: int, outputs: int) -> Node:
    return convolution(inputs, outputs, 3)


def model_record(
    description: NetworkDescription, storages: dict[str, bytes], dtype: str = "float16"
) -> Record:
    """What a checkpoint records of a network; its random weights are added to `storages`."""
    generator = torch.Generator().manual_seed(0)
    records = {}
    for index, one in enumerate(description.layers):
        weights = {}
        for name, like in build(one.block).state_dict().items():
            count = max(like.numel(), 1)
            numbers = torch.rand(count, generator=generator).to(getattr(torch, dtype))
            key = str(len(storages))
            storages[key] = numbers.numpy().tobytes()
            strides, step = [], 1
            for size in reversed(like.shape):
                strides.insert(0, step)
                step *= size
            storage = StorageReference(dtype, key, count)
            weights[name] = TensorReference(storage, 0, tuple(like.shape), tuple(strides))
        records[str(index)] = _record(one.block, weights)
        records[str(index)].attributes["f"] = list(one.inputs)
    sequence = Record("torch.nn.modules.container.Sequential", {"_modules": records})
    attributes = {
        "_modules": {"model": sequence},
        "names": dict(enumerate(description.class_names)),
    }
    return Record("ultralytics.nn.tasks.PoseModel", attributes)


def _record(node: Node, weights: dict[str, TensorReference]) -> Record:
    own = {name: value for name, value in weights.items() if "." not in name}
    attributes: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in node.settings.items()
    }
    attributes["_parameters"] = own
    attributes["_buffers"] = {}
    attributes["_modules"] = {
        part: _record(child, _below(weights, part)) for part, child in node.parts.items()
    }
    return Record(f"ultralytics.nn.modules.{node.kind}", attributes)


def _below(weights: dict[str, TensorReference], part: str) -> dict[str, TensorReference]:
    prefix = f"{part}."
    return {n[len(prefix) :]: value for n, value in weights.items() if n.startswith(prefix)}


def tiny_members(description: NetworkDescription | None = None) -> tuple[Record, dict[str, bytes]]:
    """The record of a tiny network, and the members of its archive but for the pickle."""
    storages: dict[str, bytes] = {}
    record = model_record(description or tiny_description(), storages)
    return record, {f"tiny/data/{key}": data for key, data in storages.items()}


def tiny_checkpoint(change: Any = None, description: NetworkDescription | None = None) -> bytes:
    """A checkpoint of a tiny network; `change` may alter its record before it is written."""
    record, members = tiny_members(description)
    content = {"model": record, "epoch": -1}
    content = change(content) or content if change else content
    return archived({"tiny/data.pkl": pickled(content), "tiny/byteorder": b"little", **members})
