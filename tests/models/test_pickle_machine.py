"""Nothing that a pickle names is ever run: hostile pickles are refused, damaged ones too."""

from __future__ import annotations

import collections
import os
import pickle
import pickletools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose_node.models.pickle_machine import (
    MAX_PICKLE_BYTES,
    Name,
    PickleError,
    Record,
    StorageReference,
    TensorReference,
    read_pickle,
)


class Shell:
    """An object whose unpickling would run a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_survive(protocol: int) -> None:
    value: dict[Any, Any] = {
        "a": [1, -2, 3.5, None, True, False, 2**40],
        "b": ("x", ("é",), (), {}, []),
        3: collections.OrderedDict([("k", 1)]),
        "long": "y" * 300,
    }
    assert read_pickle(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_command_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    witness = tmp_path / "witness"
    data = pickle.dumps({"model": Shell(f"touch {witness}")}, protocol)
    with pytest.raises(PickleError, match=r"names '(posix|nt)\.system'"):
        read_pickle(data)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", r"names 'os\.system'"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.", r"names 'os\.system'"),
        (b"(S'true'\nios\nsystem\n.", "operation INST"),
        (b"(cos\nsystem\nS'true'\no.", r"names 'os\.system'"),
        (b"(c__builtin__\nset\n]o.", "operation OBJ"),
        (b"c__builtin__\neval\n.", r"names '__builtin__\.eval'"),
        (b"cbuiltins\nexec\n(S'1'\ntR.", r"names 'builtins\.exec'"),
        (b"ctorch\nload\n.", r"names 'torch\.load'"),
        (b"ctorch.nn\nModule\n.", r"names 'torch\.nn\.Module'"),
        (b"cultralytics_evil\nx\n.", "names 'ultralytics_evil"),
        (b"Ptrue\n.", "operation PERSID"),
        (b"\x82\x01.", "damaged|operation EXT1"),
        (b"\x80\x05\x97.", "operation NEXT_BUFFER"),
        (b"S'x'\n)R.", "calls 'x'"),
        (b"c__builtin__\nset\nK\x01R.", "calls __builtin__.set"),
        (b"ctorch\nHalfStorage\n)R.", "not a function"),
        (b"K\x01Q.", "expected a storage"),
        (b"(]K\x01d.", "a key is a list"),
        (b"(K\x01d.", "key without a value"),
        (b"K\x01K\x02a.", "appends to int"),
        (b"K\x01K\x02K\x03s.", "sets an item of int"),
        (b"t.", "never opened"),
        (b"0.", "POP"),
        (b"a.", "runs empty"),
        (b"(.", "runs empty"),
        (b".", "runs empty"),
        (b"h\x07.", "recalls value 7"),
        (b"K\x01", "ends without a result|damaged"),
        (b"", "ends without a result|damaged"),
        (b"not a pickle", "damaged"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)R.", "made of storage"),
        (b"ctorch._utils\n_rebuild_parameter\n)R.", "without a value"),
        (b"ctorch\nSize\n(K\x01tR.", "made of a list"),
        (b"ccollections\nOrderedDict\n((K\x01ttR.", "made of pairs"),
        (b"K\x01K\x02\x93.", "named by two strings"),
        (b"I" + b"9" * 5000 + b"\n.", "damaged"),
        (b"X\xff\xff\xff\x7fabc.", "damaged"),
    ],
)
def test_tricks_and_damage_are_refused(data: bytes, text: str) -> None:
    with pytest.raises(PickleError, match=text):
        read_pickle(data)


def test_a_nested_pickle_stays_bytes() -> None:
    inner = pickle.dumps(Shell("true"))
    assert read_pickle(pickle.dumps({"payload": inner}, 4)) == {"payload": inner}


def test_too_large_is_refused_unread() -> None:
    with pytest.raises(PickleError, match=f"expected at most {MAX_PICKLE_BYTES}"):
        read_pickle(b"N" * (MAX_PICKLE_BYTES + 1))


def test_module_classes_become_records() -> None:
    data = b"cultralytics.nn.modules.conv\nConv\n)\x81}X\x01\x00\x00\x00kK\x03sb."
    record = read_pickle(data)
    assert isinstance(record, Record)
    assert record.class_name == "ultralytics.nn.modules.conv.Conv"
    assert record.short_name == "Conv"
    assert record.attributes == {"k": 3}
    assert record.children == {}


def test_a_state_cannot_replace_how_a_record_behaves() -> None:
    data = b"cmodels.yolo\nModel\n)\x81}X\x0c\x00\x00\x00__setstate__cmodels.yolo\nModel\nsb."
    record = read_pickle(data)
    assert record.attributes == {"__setstate__": Name("models.yolo", "Model")}
    assert "__setstate__" not in vars(record)


def test_a_tensor_becomes_a_reference() -> None:
    data = (
        b"ctorch._utils\n_rebuild_tensor_v2\n"
        b"((S'storage'\nctorch\nHalfStorage\nS'7'\nS'cpu'\nK\x06tQ"
        b"K\x00K\x02K\x03\x86K\x03K\x01\x86tR."
    )
    storage = StorageReference("float16", "7", 6)
    assert read_pickle(data) == TensorReference(storage, 0, (2, 3), (3, 1))


def test_an_endless_value_is_refused_without_being_written_out() -> None:
    """Each level doubles what the value looks like in full; the text must not contain it."""
    doubled = b"".join(b"q%ch%ch%c\x86" % (level, level, level) for level in range(1, 60))
    with pytest.raises(PickleError, match="calls a tuple of 2"):
        read_pickle(b"\x80\x02)" + doubled + b")R.")
    nested = b")" + b"\x85" * 100_000
    with pytest.raises(PickleError, match="calls a tuple of 1"):
        read_pickle(b"\x80\x02" + nested + b")R.")


def test_a_cyclic_pickle_can_be_read() -> None:
    value: list[Any] = []
    value.append(value)
    result = read_pickle(pickle.dumps(value, 2))
    assert result[0] is result


OPCODES = [ord(opcode.code) for opcode in pickletools.opcodes]


@settings(max_examples=400)
@given(st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(OPCODES), max_size=60)))
def test_any_bytes_give_a_value_or_the_one_error(data: bytes | list[int]) -> None:
    try:
        result = read_pickle(bytes(data) + b".")
    except PickleError:
        return
    assert type(result).__module__ in {"builtins", "pose_node.models.pickle_machine"}
