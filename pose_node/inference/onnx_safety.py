"""Refuses ONNX files that would make ONNX Runtime read files elsewhere.

Weights of an ONNX file may lie in files beside it. ONNX Runtime before 1.24 follows any path to
them, ``/etc/passwd`` included, so the paths are looked at first. An ONNX file is a protocol buffer:
fields of a number, a wire type and a value, nested. Only the few that lead to tensors are entered,
and nothing is copied. Source: onnx.proto of the ONNX project and the encoding of protocol buffers.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from pose_node.errors import CheckpointError

MAX_FIELDS = 2_000_000
"""Fields that are looked at; a network of a thousand operators has some tens of thousands."""

# For each kind of message, the fields that lead to tensors, and what they hold.
_CHILDREN: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        **{5: "TensorProto", 10: "TensorProto", 6: "GraphProto", 11: "GraphProto"},
        **{22: "SparseTensorProto", 23: "SparseTensorProto"},
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: "StringStringEntryProto"},
}
_ENTRY_VALUE = 2  # of StringStringEntryProto
_MAX_TAG = 0xFFFFFFFF
_MAX_PATH = 4096  # bytes; Linux opens no longer one
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


def check_external_data(path: Path) -> None:
    """See to it that an ONNX file keeps its weights within itself and its own folder.

    Args:
        path: the file.

    Raises:
        CheckpointError: it is not there, is no ONNX file, or names a file elsewhere.
    """
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            memoryview(data) as view,
        ):
            paths = sorted(set(_external_paths(view)))
    except (OSError, ValueError, IndexError) as error:  # ValueError: also an empty file
        reason = "there is no such file" if not path.is_file() else f"it is no ONNX file: {error}"
        raise CheckpointError(f"cannot read {path}: {reason}") from error
    folder = path.resolve().parent
    for name in paths:
        try:
            inside = (folder / name).resolve().is_relative_to(folder)
        except (OSError, ValueError):  # a name that no file can have
            inside = False
        if not inside or Path(name).is_absolute() or ".." in Path(name).parts:
            raise CheckpointError(
                f"cannot read {path}: it wants its weights from {name!r:.200}, expected a file in "
                "its own folder; the file may be hostile"
            )


def _external_paths(data: memoryview) -> Iterator[str]:
    """Every value of an entry of external data: paths, and numbers, which are harmless as paths."""
    waiting = [("ModelProto", 0, len(data))]
    visited = 0
    while waiting:
        kind, start, end = waiting.pop()
        children = _CHILDREN.get(kind, {})
        for field, first, last in _fields(data, start, end):
            visited += 1
            if visited > MAX_FIELDS:
                raise ValueError(f"it has more than {MAX_FIELDS} fields")
            if kind == "StringStringEntryProto" and field == _ENTRY_VALUE:
                if last - first > _MAX_PATH:
                    raise ValueError(f"a path in it has more than {_MAX_PATH} bytes")
                yield os.fsdecode(bytes(data[first:last]))
            elif field in children:
                waiting.append((children[field], first, last))


def _fields(data: memoryview, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of every field of one message that holds bytes."""
    while position < end:
        tag, position = _varint(data, position, end)
        wire_type, field = tag & 7, tag >> 3
        # ONNX Runtime drops what is above 32 bits, and would see another field than we do.
        if tag > _MAX_TAG or field == 0:
            raise ValueError(f"a field has number {field}, expected 1 to {_MAX_TAG >> 3}")
        if wire_type == _VARINT:
            _, position = _varint(data, position, end)
        elif wire_type == _BYTES:
            length, position = _varint(data, position, end)
            if length > end - position:
                raise ValueError("a field reaches beyond its end")
            yield field, position, position + length
            position += length
        elif wire_type in (_FIXED64, _FIXED32):
            position += 8 if wire_type == _FIXED64 else 4
        else:
            raise ValueError(f"a field has wire type {wire_type}")
    if position != end:
        raise ValueError("a field reaches beyond its end")


def _varint(data: memoryview, position: int, end: int) -> tuple[int, int]:
    """A number of up to ten bytes, and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise ValueError("it ends within a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number has more than ten bytes")
