"""Reads a pickle as inert data: nothing that it names is ever imported, constructed or called.

``pickle.Unpickler`` runs what a file tells it to, and the usual defence, an allow-list in
``find_class``, still hands real callables to the file. This machine has none to hand out: it walks
the operations of protocols 2 to 5 (the older ones cannot hold a tensor) over a stack of the values
of `pose_node.models.inert`.

Time and memory are bounded by the length of the pickle: no operation costs more than the bytes it
takes, except those that are counted. docs/model_files.md says what is refused and why.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Iterable
from typing import Any

from pose_node.models.inert import (
    MAX_NAME,
    STORAGE_DTYPES,
    Name,
    PickleError,
    Record,
    StorageReference,
    TensorReference,
    brief,
    call,
    checked_name,
    set_item,
    storage,
)

MAX_PICKLE_BYTES = 4 * 1024 * 1024  # the largest published pose checkpoint has under 1 MB
MAX_OBJECTS = 400_000  # dictionaries, lists, tuples and records; a published pickle has 71000 a MB
MAX_COPIED = 100_000  # attributes that are joined with others; published files have below 100
MAX_NAMES = 1000  # different classes and functions; published files name up to 40
MAX_GROUPS = 200  # open at one time
MAX_DEPTH = 200  # of values within values; published files have up to 28
MAX_WRITTEN = 2_000_000  # values, were everything that is shared written out
MAX_TENSORS = 20_000  # likewise; a published file has below 2000

_NOTHING = object()
_SIGNED = struct.Struct("<i")
_INDEX = struct.Struct("<I")
_FLOAT = struct.Struct(">d")


class _Machine:
    """The stack, the memo and what each operation does to them."""

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = data
        self.position = 0
        self.stack: list[Any] = []
        self.groups: list[int] = []  # heights of the stack at which open groups begin
        self.floor = 0  # the last of them: what lies below cannot be taken
        self.memo: list[Any] = []
        self.names: dict[tuple[object, object], Name] = {}
        self.objects = 0
        self.copied = 0

    def run(self) -> Any:
        data, end, operations = self.data, len(self.data), _OPERATIONS
        while self.position < end:
            code = data[self.position]
            self.position += 1
            if code == _STOP:
                return self.pop()
            operation = operations.get(code)
            if operation is None:
                raise PickleError(_describe_refused(code, self.position - 1))
            operation(self)
        raise PickleError("it ends without a result")

    # Arguments

    def take(self, count: int) -> bytes:
        start = self.position
        self.position = stop = start + count
        if stop > len(self.data):
            raise PickleError("it is cut: it ends within an operation")
        return bytes(self.data[start:stop])

    def skip_frame(self) -> None:
        self.take(8)  # a length, for those who read from a stream

    def take_byte(self) -> int:
        position = self.position
        if position >= len(self.data):
            raise PickleError("it is cut: it ends within an operation")
        self.position = position + 1
        return self.data[position]

    def take_integer(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def take_index(self) -> int:
        position = self.position
        if position + 4 > len(self.data):
            raise PickleError("it is cut: it ends within an operation")
        self.position = position + 4
        index: int = _INDEX.unpack_from(self.data, position)[0]
        return index

    def take_line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + MAX_NAME + 1)
        if end < 0:
            raise PickleError(f"it names something longer than {MAX_NAME} characters")
        line = self.take(end - self.position)
        self.position += 1
        return line.decode("utf-8", "replace")

    # The stack

    def pop(self) -> Any:
        if len(self.stack) <= self.floor:
            raise PickleError("its stack runs empty")
        return self.stack.pop()

    def top(self) -> Any:
        if len(self.stack) <= self.floor:
            raise PickleError("its stack runs empty")
        return self.stack[-1]

    def push_new(self, value: Any) -> None:
        self.objects += 1
        if self.objects > MAX_OBJECTS:
            raise PickleError(f"it makes more than {MAX_OBJECTS} objects")
        self.stack.append(value)

    def open_group(self) -> None:
        if len(self.groups) == MAX_GROUPS:
            raise PickleError(f"it opens more than {MAX_GROUPS} groups within each other")
        self.floor = len(self.stack)
        self.groups.append(self.floor)

    def close_group(self) -> list[Any]:
        if not self.groups:
            raise PickleError("it closes a group that was never opened")
        start = self.groups.pop()
        self.floor = self.groups[-1] if self.groups else 0
        values = self.stack[start:]
        del self.stack[start:]
        return values

    # The memo

    def store(self, index: int) -> None:
        value, memo = self.top(), self.memo
        if index == len(memo):
            memo.append(value)
            return
        if index > len(self.data):  # a pickle can never have stored so many
            raise PickleError(f"it stores value {index}, more than it has bytes")
        if index > len(memo):
            memo.extend([_NOTHING] * (index + 1 - len(memo)))
        memo[index] = value

    def recall(self, index: int) -> None:
        memo = self.memo
        if index >= len(memo) or memo[index] is _NOTHING:
            raise PickleError(f"it recalls value {index}, which was never stored")
        self.stack.append(memo[index])

    # Values

    def push_text(self, size: int) -> None:
        # A path may hold what is no proper text; nothing that matters does.
        self.stack.append(self.take(size).decode("utf-8", "replace"))

    def push_long(self) -> None:
        size = self.take_byte()
        if size > 16:
            raise PickleError(f"it has an integer of {8 * size} bits, expected at most 128")
        self.stack.append(int.from_bytes(self.take(size), "little", signed=True))

    def push_tuple(self, size: int) -> None:
        stack = self.stack
        if len(stack) < self.floor + size:
            raise PickleError("its stack runs empty")
        values = tuple(stack[-size:])
        del stack[-size:]
        self.push_new(values)

    def push_dictionary(self) -> None:
        values = self.close_group()
        self.push_new({})
        self.set_items(values)

    def append_all(self, values: list[Any]) -> None:
        target = self.top()
        if type(target) is not list:
            raise PickleError(f"it appends to {type(target).__name__}, expected a list")
        target.extend(values)

    def set_items(self, values: list[Any]) -> None:
        if len(values) % 2:
            raise PickleError("a dictionary has a key without a value")
        target = self.top()
        for index in range(0, len(values), 2):
            set_item(target, values[index], values[index + 1])

    def set_one(self) -> None:
        value, key = self.pop(), self.pop()
        set_item(self.top(), key, value)

    # Classes and calls

    def push_name(self, module: object, name: object) -> None:
        key = (module, name) if isinstance(module, str) and isinstance(name, str) else (None, None)
        found = self.names.get(key)
        if found is None:
            found = self.names[key] = checked_name(module, name)
            if len(self.names) > MAX_NAMES:
                raise PickleError(f"it names more than {MAX_NAMES} classes and functions")
        self.stack.append(found)

    def push_named_above(self) -> None:
        name, module = self.pop(), self.pop()
        self.push_name(module, name)

    def push_call(self) -> None:
        arguments, callee = self.pop(), self.pop()
        self.push_new(call(callee, arguments))

    def set_state(self) -> None:
        """Give attributes to a record. What else takes a state (an OrderedDict) does not need it.

        The record takes the very dictionary, so that many cannot copy a long one.
        """
        state, target = self.pop(), self.top()
        if not isinstance(target, Record):
            return
        for part in state if type(state) is tuple and len(state) == 2 else (state,):
            if type(part) is not dict:
                continue  # the numbers of an array, for example
            if target.attributes:
                self.copied += len(part) + len(target.attributes)
                if self.copied > MAX_COPIED:
                    raise PickleError("it gives states over and over")
                target.attributes = {**target.attributes, **part}
            else:
                target.attributes = part

    def check_version(self) -> None:
        version = self.take_byte()
        if not 2 <= version <= 5:
            raise PickleError(f"it is of protocol {version}, expected 2 to 5")


_Operation = Callable[[_Machine], None]

# What is not here is refused. Those for text (protocols 0 and 1), out-of-band buffers, extension
# codes and for taking values from the stack are not needed.
_BY_NAME: dict[str, _Operation] = {
    "PROTO": _Machine.check_version,
    "FRAME": _Machine.skip_frame,
    "MARK": _Machine.open_group,
    # Single values
    "NONE": lambda machine: machine.stack.append(None),
    "NEWTRUE": lambda machine: machine.stack.append(True),
    "NEWFALSE": lambda machine: machine.stack.append(False),
    "BININT": lambda machine: machine.stack.append(_SIGNED.unpack(machine.take(4))[0]),
    "BININT1": lambda machine: machine.stack.append(machine.take_byte()),
    "BININT2": lambda machine: machine.stack.append(machine.take_integer(2)),
    "LONG1": _Machine.push_long,
    "BINFLOAT": lambda machine: machine.stack.append(_FLOAT.unpack(machine.take(8))[0]),
    "SHORT_BINUNICODE": lambda machine: machine.push_text(machine.take_byte()),
    "BINUNICODE": lambda machine: machine.push_text(machine.take_integer(4)),
    "BINUNICODE8": lambda machine: machine.push_text(machine.take_integer(8)),
    "SHORT_BINBYTES": lambda machine: machine.stack.append(machine.take(machine.take_byte())),
    "BINBYTES": lambda machine: machine.stack.append(machine.take(machine.take_integer(4))),
    "BINBYTES8": lambda machine: machine.stack.append(machine.take(machine.take_integer(8))),
    # The memo
    "BINGET": lambda machine: machine.recall(machine.take_byte()),
    "LONG_BINGET": lambda machine: machine.recall(machine.take_index()),
    "BINPUT": lambda machine: machine.store(machine.take_byte()),
    "LONG_BINPUT": lambda machine: machine.store(machine.take_index()),
    "MEMOIZE": lambda machine: machine.store(len(machine.memo)),
    # Collections; a set is a list here
    "EMPTY_TUPLE": lambda machine: machine.stack.append(()),
    "TUPLE1": lambda machine: machine.push_tuple(1),
    "TUPLE2": lambda machine: machine.push_tuple(2),
    "TUPLE3": lambda machine: machine.push_tuple(3),
    "TUPLE": lambda machine: machine.push_new(tuple(machine.close_group())),
    "FROZENSET": lambda machine: machine.push_new(tuple(machine.close_group())),
    "EMPTY_LIST": lambda machine: machine.push_new([]),
    "EMPTY_SET": lambda machine: machine.push_new([]),
    "LIST": lambda machine: machine.push_new(machine.close_group()),
    "APPEND": lambda machine: machine.append_all([machine.pop()]),
    "APPENDS": lambda machine: machine.append_all(machine.close_group()),
    "ADDITEMS": lambda machine: machine.append_all(machine.close_group()),
    "EMPTY_DICT": lambda machine: machine.push_new({}),
    "DICT": _Machine.push_dictionary,
    "SETITEM": _Machine.set_one,
    "SETITEMS": lambda machine: machine.set_items(machine.close_group()),
    # Classes, calls and storages
    "GLOBAL": lambda machine: machine.push_name(machine.take_line(), machine.take_line()),
    "STACK_GLOBAL": _Machine.push_named_above,
    "REDUCE": _Machine.push_call,
    "NEWOBJ": _Machine.push_call,
    "BUILD": _Machine.set_state,
    "BINPERSID": lambda machine: machine.push_new(storage(machine.pop())),
}

_CODES = {operation.name: ord(operation.code) for operation in pickletools.opcodes}
_STOP = _CODES["STOP"]
_OPERATIONS = {_CODES[name]: operation for name, operation in _BY_NAME.items()}


def _describe_refused(code: int, position: int) -> str:
    for name, known in _CODES.items():
        if known == code:
            return f"it uses the operation {name}, which no pose checkpoint needs"
    return f"it is damaged: byte {position} is no operation"


def read_pickle(data: bytes | bytearray) -> Any:
    """Turn a pickle into plain values, names, records and references to storages.

    Args:
        data: the pickle, at most `MAX_PICKLE_BYTES` long.

    Returns:
        What the pickle describes, as dict, list, tuple, str, bytes, numbers, None, `Name`, `Record`
        and `TensorReference`. It never contains itself, and has a size that can be walked and
        written out.

    Raises:
        PickleError: it is damaged, too large, or names or does something that is not allowed.
    """
    if len(data) > MAX_PICKLE_BYTES:
        raise PickleError(f"it has {len(data)} bytes, expected at most {MAX_PICKLE_BYTES}")
    result = _Machine(data).run()
    _check_extent(result)
    return result


def _check_extent(value: Any) -> None:
    """Refuse values that contain themselves, or that sharing makes endless when walked.

    Depth first: a value's number of values is known when those of all its parts are.
    """
    open_now = -1
    counts: dict[int, int] = {}
    depth = 0
    waiting = [value]
    while waiting:
        value = waiting[-1]
        count = counts.get(id(value))
        if count is None:
            counts[id(value)] = open_now
            depth += 1
            if depth > MAX_DEPTH:
                raise PickleError(f"its values are nested more than {MAX_DEPTH} deep")
            for part in _parts(value):
                if type(part) in _CONTAINERS and part:
                    found = counts.get(id(part))
                    if found is None:
                        waiting.append(part)
                    elif found == open_now:
                        raise PickleError(f"{brief(part)} contains itself")
        else:
            waiting.pop()
            if count == open_now:
                depth -= 1
                counts[id(value)] = total = 1 + sum(
                    counts.get(id(part), 1) if type(part) in _CONTAINERS else _weight(part)
                    for part in _parts(value)
                )
                if total > MAX_WRITTEN:
                    raise PickleError(
                        f"it would be more than {MAX_WRITTEN} values or {MAX_TENSORS} tensors, "
                        "were all that it shares written out"
                    )


_CONTAINERS = {dict, list, tuple, Record}


def _weight(value: Any) -> int:
    if type(value) is TensorReference:
        return MAX_WRITTEN // MAX_TENSORS
    return 1 + len(value) // 8 if type(value) in (str, bytes) else 1


def _parts(value: Any) -> Iterable[Any]:
    if type(value) is dict:
        return value.values()
    if type(value) is Record:
        return (value.attributes,)
    return value if type(value) in (list, tuple) else ()


__all__ = [
    "MAX_PICKLE_BYTES",
    "STORAGE_DTYPES",
    "Name",
    "PickleError",
    "Record",
    "StorageReference",
    "TensorReference",
    "brief",
    "read_pickle",
]
