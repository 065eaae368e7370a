"""Damages model files in ways that get past the first checks: for test_fuzz.py and scripts/fuzz."""

from __future__ import annotations

import copy
import json
import pickletools
import random
import struct
from collections.abc import Sequence
from typing import Any

from pose_node.models.pickle_machine import Record, TensorReference
from tests.models.checkpoint_maker import archived, pickled, tiny_members

INTEGERS = (
    *(-1, 0, 1, 2, 3, 4, 7, 8, 16, 127, 128, 255, 256, 65535, 65536, 16384, 16385),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, -(2**31), -(2**63)),
)
VALUES: tuple[Any, ...] = (
    *INTEGERS,
    *(0.0, -1.5, 1e-320, 1e300, float("nan"), float("inf"), "", "x" * 200, "same", "nearest"),
    *(None, True, False, (), [], {}, (1, 1), [2, 2], (0, 0), (-1, -1), [10**9, 10**9]),
    *([1] * 9, ("a", "b"), {"a": 1}, b"\x80\x02.", Record("models.common.Conv", {})),
)
KINDS = (
    *("Conv2d", "BatchNorm2d", "MaxPool2d", "Upsample", "LeakyReLU", "SiLU", "ReLU", "Hardswish"),
    *("Identity", "Sequential", "ModuleList", "Conv", "DWConv", "Bottleneck", "C3", "C2f", "SPPF"),
    *("Concat", "C2", "Pose", "Pose26", "C3k", "C3k2", "Attention", "PSABlock", "C2PSA", "Focus"),
    *("Contract", "ConvFocus", "SPP", "Detect", "ReOrg", "SPPCSPC", "ImplicitA", "ImplicitM"),
    *("IKeypoint", "YoloxHead", "Unknown"),
)
"""Of modules."""
_OPERATIONS = [operation.code.encode("latin-1") for operation in pickletools.opcodes]


def damage_bytes(data: bytes, other: bytes, random: random.Random) -> bytes:
    """Changes a few bytes, anywhere."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        if not changed:
            break
        start = random.randrange(len(changed))
        length = random.choice((1, 1, 2, 4, 8, 64))
        match random.randrange(7):
            case 0:
                changed[start] ^= 1 << random.randrange(8)
            case 1:
                changed[start] = random.randrange(256)
            case 2:
                del changed[start : start + length]
            case 3:
                changed[start:start] = random.randbytes(length)
            case 4:
                changed[start:start] = changed[start : start + length] * random.choice((1, 2, 50))
            case 5:
                size = random.choice((1, 2, 4, 8))
                value = random.choice(INTEGERS) % 256**size
                changed[start : start + size] = value.to_bytes(
                    size, random.choice(("little", "big"))
                )
            case 6:
                place = random.randrange(len(other) + 1)
                changed[start : start + length] = other[place : place + random.choice((8, 64, 512))]
    return bytes(changed)


def operations(data: bytes) -> list[bytes]:
    """A pickle, cut into its operations."""
    positions = [position for _, _, position in pickletools.genops(data)]
    return [
        data[i:j]
        for i, j in zip(positions, [*positions[1:], len(data)], strict=True)
        if i is not None
    ]


def damage_operations(
    parts: Sequence[bytes], other: Sequence[bytes], random: random.Random
) -> bytes:
    """Changes a few operations of a pickle, and keeps each of them whole."""
    changed = list(parts)
    for _ in range(random.choice((1, 1, 2, 3, 8))):
        start = random.randrange(len(changed)) if changed else 0
        stop = start + random.choice((1, 1, 2, 5, 20))
        match random.randrange(7):
            case 0:
                del changed[start:stop]
            case 1:
                changed[start:start] = changed[start:stop] * random.choice((1, 1, 2, 100))
            case 2:
                place = random.randrange(len(other))
                changed[start:stop] = other[place : place + random.choice((1, 5, 50))]
            case 3:
                to = random.randrange(len(changed) + 1)
                changed[to:to] = changed[start:stop]
            case 4:
                changed[start:start] = [random.choice(_OPERATIONS)]
            case 5 if changed:
                changed[start] = random.choice(_OPERATIONS) + changed[start][1:]
            case 6 if changed:
                changed[start] = changed[start][:1] + random.randbytes(len(changed[start]) - 1)
    if random.random() < 0.9:  # else it has no end
        changed.append(b".")
    return b"".join(changed)


def _places(value: Any, found: list[tuple[Any, Any]], depth: int = 0) -> list[tuple[Any, Any]]:
    """Everything in a record or in JSON that can be replaced: container and key."""
    container = value.attributes if isinstance(value, Record) else value
    items = container.items() if isinstance(container, dict) else ()
    if isinstance(container, list):
        items = enumerate(container)
    for key, part in items:
        found.append((container, key))
        if depth < 40:
            _places(part, found, depth + 1)
    return found


def damage_tree(value: Any, random: random.Random) -> None:
    """Changes a few values of a record or of JSON, in place."""
    for _ in range(random.choice((1, 1, 2, 4))):
        places = _places(value, [])
        if not places:
            return
        container, key = random.choice(places)
        old = container[key]
        match random.randrange(7):
            case 0 | 1:
                container[key] = copy.deepcopy(random.choice(VALUES))
            case 2:
                other, place = random.choice(places)
                container[key] = copy.deepcopy(other[place])
            case 3 if isinstance(container, dict):
                del container[key]
            case 4 if isinstance(container, dict):
                container[random.choice(("0", "m", "act", "cv1", "conv", "f", key))] = old
            case 5 if isinstance(old, Record):
                old.class_name = f"models.common.{random.choice(KINDS)}"
            case 5 if isinstance(old, TensorReference):
                fields = [old.offset, old.shape, old.strides]
                fields[random.randrange(3)] = random.choice(
                    (*INTEGERS, (), (0,), (1,) * 9, (2**40, 2**40), old.shape[::-1])
                )
                container[key] = TensorReference(old.storage, *fields)  # type: ignore[arg-type]
            case 6 if isinstance(old, (int, float)):
                container[key] = random.choice((old + 1, old * 2, -old, old // 2 if old else 1))
            case 6 if isinstance(old, str) and key == "kind":
                container[key] = random.choice(KINDS)


def damaged_network(random: random.Random) -> bytes:
    """A checkpoint whose pickle is in order, and describes a network that is not."""
    record, members = tiny_members()
    content = {"model": record}
    damage_tree(content, random)
    try:
        data = pickled(content)
    except (TypeError, ValueError, OverflowError, struct.error, RecursionError):
        data = pickled(None)  # what cannot be written
    for name in random.sample(sorted(members), 1) if random.random() < 0.2 else ():
        members[name] = damage_bytes(members[name], b"\xff" * 64, random)
    return archived({"tiny/data.pkl": data, **members})


def damaged_native(good: bytes, random: random.Random) -> bytes:
    """A native file with another description or another header."""
    length = int.from_bytes(good[:8], "little")
    header = json.loads(good[8 : 8 + length])
    if random.random() < 0.8:
        value = json.loads(header["__metadata__"]["description"])
        damage_tree(value, random)
        header["__metadata__"]["description"] = json.dumps(value, default=str)
    else:
        damage_tree(header, random)
    written = json.dumps(header, default=str).encode()
    return len(written).to_bytes(8, "little") + written + good[8 + length :]
