"""Nothing that a pickle names is ever run: hostile pickles are refused, damaged ones too."""

from __future__ import annotations

import collections
import os
import pickle
import pickletools
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
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


PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_survive(protocol: int) -> None:
    value: dict[Any, Any] = {
        "a": [1, -2, 3.5, None, True, False, 2**40],
        "b": ("x", ("é",), (), {}, []),
        3: collections.OrderedDict([("k", 1)]),
        "long": "y" * 300,
    }
    assert read_pickle(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_command_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    witness = tmp_path / "witness"
    data = pickle.dumps({"model": Shell(f"touch {witness}")}, protocol)
    with pytest.raises(PickleError, match=r"names '(posix|nt)\.system'"):
        read_pickle(data)
    assert not witness.exists()


SYSTEM = b"cos\nsystem\n"
TEXT = b"\x8c\x01x"  # puts "x" on the stack
RECORD = b"cmodels.yolo\nModel\n"


def call(name: bytes, arguments: bytes) -> bytes:
    """Calls the function of that name; `arguments` put a tuple on the stack."""
    return b"c" + name + b"\n" + arguments + b"R."


@pytest.mark.parametrize(
    ("data", "text"),
    [
        # Other ways to a function
        (SYSTEM + b"\x8c\x04true\x85R.", r"names 'os\.system'"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.", r"names 'os\.system'"),
        (b"(S'true'\nios\nsystem\n.", "operation STRING"),
        (b"(\x8c\x04trueios\nsystem\n.", "operation INST"),
        (b"(" + SYSTEM + b"\x8c\x04trueo.", r"names 'os\.system'"),
        (b"(c__builtin__\nset\n]o.", "operation OBJ"),
        (RECORD + b")}\x92.", "operation NEWOBJ_EX"),
        (b"c__builtin__\neval\n.", r"names '__builtin__\.eval'"),
        (call(b"builtins\nexec", b"\x8c\x011\x85"), r"names 'builtins\.exec'"),
        (b"ctorch\nload\n.", r"names 'torch\.load'"),
        (b"ctorch.nn\nModule\n.", r"names 'torch\.nn\.Module'"),
        (b"cnumpy\nload\n.", r"names 'numpy\.load'"),
        (b"cpathlib\nos.system\n.", r"names 'pathlib\.os\.system'"),
        (b"cultralytics_evil\nx\n.", "names 'ultralytics_evil"),
        (b"cmodels.\x1b[31m\nx\n.", "names 'models"),
        (b"cmodels." + b"a" * 300 + b"\nx\n.", "longer than 200"),
        (b"\x8c\x06models\x8c\xff" + b"a" * 255 + b"\x93.", "longer than 200"),
        (b"K\x01K\x02\x93.", "named by two strings"),
        (b"Ptrue\n.", "operation PERSID"),
        (b"\x82\x01.", "operation EXT1"),
        (b"\x80\x05\x97.", "operation NEXT_BUFFER"),
        (b"N2.", "operation DUP"),
        (b"\xff.", "byte 0 is no operation"),
        (b"\x80\x01.", "of protocol 1"),
        (b"\x80\x06.", "of protocol 6"),
        # Calls of what cannot be called, and arguments that do not fit
        (TEXT + b")R.", "calls 'x'"),
        (b"c__builtin__\nset\nK\x01R.", "calls __builtin__.set"),
        (b"ctorch\nHalfStorage\n)R.", "not a function"),
        (call(b"torch._utils\n_rebuild_tensor_v2", b")"), "made of storage"),
        (call(b"torch._utils\n_rebuild_parameter", b")"), "made of a tensor"),
        (call(b"torch._utils\n_rebuild_parameter", TEXT + b"\x85"), "made of a tensor"),
        (call(b"torch\nSize", b"K\x01\x85"), "made of a list"),
        (call(b"collections\nOrderedDict", b"]\x85"), "made empty and then filled"),
        (b"K\x01Q.", "expected a storage"),
        # Keys that are no keys, or make a dictionary slow
        (b"(]K\x01d.", "a key is a list"),
        (b"}" + RECORD + b"Ns.", "a key is a Name"),
        (b"}G" + bytes(8) + b"Ns.", "a key is a float"),
        (b"}J\x00\x00\x01\x00Ns.", "a key is 65536"),
        (b"}X\x81\x00\x00\x00" + b"k" * 129 + b"Ns.", "a key has 129 characters"),
        (b"(K\x01d.", "key without a value"),
        (b"K\x01K\x02a.", "appends to int"),
        (b"K\x01K\x02K\x03s.", "sets an item of int"),
        # Damage
        (b"t.", "never opened"),
        (b"0.", "POP"),
        (b"a.", "runs empty"),
        (b"(.", "runs empty"),
        (b".", "runs empty"),
        (b"N(\x85.", "runs empty"),
        (b"h\x07.", "recalls value 7"),
        (b"Nq\x05h\x04.", "recalls value 4"),
        (b"Nr\xff\xff\xff\xff.", "stores value 4294967295, more than it has bytes"),
        (b"K\x01", "ends without a result"),
        (b"", "ends without a result"),
        (b"K", "ends within an operation"),
        (b"r\x01\x00", "ends within an operation"),
        (b"J\x01\x00", "ends within an operation"),
        (b"X\xff\xff\xff\x7fabc.", "ends within an operation"),
        (b"\x8d" + b"\xff" * 8 + b".", "ends within an operation"),
        (b"not a pickle", "operation GET|no operation|operation"),
        (b"\x8a\x11" + bytes(17) + b".", "an integer of 136 bits"),
        (b"\x8b\xff\xff\xff\x7f.", "operation LONG4"),
        (b"I" + b"9" * 5000 + b"\n.", "operation INT"),
        (b"F" + b"9" * 5000 + b"\n.", "operation FLOAT"),
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


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"}" * 400_001, "more than 400000 objects"),
        (b"(" * 201, "more than 200 groups"),
        (b")" + b"\x85" * 300 + b".", "nested more than 200 deep"),
        (b")" + b"q\x00h\x00h\x00\x86" * 40 + b".", "all that it shares written out"),
        (b"X\x00\x00\x10\x00" + b"a" * 1_048_576 + b"q\x00(" + b"h\x00" * 99 + b"l.", "written"),
        (
            b"".join(b"cmodels.m\nc%d\n" % index for index in range(1001)),
            "names more than 1000 classes",
        ),
        # A state that many records copy: records that have attributes already need a new dictionary
        (
            b"}("
            + b"".join(b"\x8c\x04%04dN" % index for index in range(2000))
            + b"uq\x00"
            + (RECORD + b"q\x01")
            + b"h\x01N\x85Rh\x00b" * 60,
            "states over and over",
        ),
    ],
)
def test_short_pickles_that_would_fill_the_memory_are_refused(data: bytes, text: str) -> None:
    with pytest.raises(PickleError, match=text):
        read_pickle(data)


def test_a_long_shape_that_many_tensors_share_is_not_walked() -> None:
    shape = b"(" + b"K\x01" * 9 + b"tq\x00"
    storage = b"((\x8c\x07storagectorch\nHalfStorage\n\x8c\x010\x8c\x03cpuK\x06tQ"
    with pytest.raises(PickleError, match="at most 8 integers, got a tuple of 9"):
        read_pickle(shape + b"ctorch._utils\n_rebuild_tensor_v2\n" + storage + b"K\x00h\x00h\x00tR")


def test_sets_and_sizes_are_not_copied() -> None:
    data = b"(" + b"K\x01" * 5 + b"lq\x00c__builtin__\nset\nh\x00\x85Rh\x00\x86."
    made, source = read_pickle(data)
    assert made is source
    for protocol in PROTOCOLS:
        assert list(read_pickle(pickle.dumps({7}, protocol))) == [7]
        assert list(read_pickle(pickle.dumps(frozenset("x"), 4))) == ["x"]


def test_the_small_values_of_other_libraries_become_records() -> None:
    """What training leaves in a file: scores as numpy numbers, paths."""
    values = {"score": np.float64(0.5), "row": np.arange(3.0), "path": PurePosixPath("a", "b")}
    for protocol in (2, 4):
        found = read_pickle(pickle.dumps(values, protocol))
        assert [value.short_name for value in found.values()] == [
            "scalar",
            "_reconstruct",
            "PurePosixPath",
        ]
    local = b"cpathlib._local\nPosixPath\n\x8c\x01a\x85R."
    assert read_pickle(local).attributes == {"arguments": ("a",)}


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
    assert not hasattr(record, "__setstate__")


def test_the_states_of_a_record_with_slots_are_joined() -> None:
    data = RECORD + b")\x81}\x8c\x01aK\x01s}\x8c\x01bK\x02s\x86b}\x8c\x01aK\x03sb."
    assert read_pickle(data).attributes == {"a": 3, "b": 2}
    assert read_pickle(b"}K\x01b.") == {}  # an OrderedDict may take a state, and does not need it


def test_a_tensor_becomes_a_reference() -> None:
    data = (
        b"ctorch._utils\n_rebuild_tensor_v2\n"
        b"((\x8c\x07storagectorch\nHalfStorage\n\x8c\x017\x8c\x03cpuK\x06tQ"
        b"K\x00K\x02K\x03\x86K\x03K\x01\x86tR."
    )
    storage = StorageReference("float16", "7", 6)
    assert read_pickle(data) == TensorReference(storage, 0, (2, 3), (3, 1))


def test_an_endless_value_is_refused_without_being_written_out() -> None:
    """Each level doubles what the value looks like in full; the text must not contain it."""
    doubled = b"".join(b"q%ch%ch%c\x86" % (level, level, level) for level in range(1, 60))
    with pytest.raises(PickleError, match="calls a tuple of 2"):
        read_pickle(b"\x80\x02)" + doubled + b")R.")
    nested = b")" + b"\x85" * 100_000  # deeper than Python's own limit
    with pytest.raises(PickleError, match="calls a tuple of 1"):
        read_pickle(b"\x80\x02" + nested + b")R.")


def test_values_that_contain_themselves_are_refused() -> None:
    """Whoever walks them would not end."""
    value: list[Any] = []
    value.append({"deeper": (1, value)})
    record = RECORD + b")\x81q\x00}\x8c\x04selfh\x00sb."
    for data in (pickle.dumps(value, 2), record):
        with pytest.raises(PickleError, match="contains itself"):
            read_pickle(data)


def test_shared_values_stay_shared() -> None:
    shared: list[Any] = [1]
    first, second = read_pickle(pickle.dumps([shared, shared], 2))
    assert first is second


OPCODES = [ord(opcode.code) for opcode in pickletools.opcodes]


@settings(max_examples=400)
@given(st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(OPCODES), max_size=60)))
def test_any_bytes_give_a_value_or_the_one_error(data: bytes | list[int]) -> None:
    try:
        result = read_pickle(bytes(data) + b".")
    except PickleError:
        return
    assert type(result).__module__ in {"builtins", "pose_node.models.inert"}
