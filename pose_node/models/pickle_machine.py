"""Reads a pickle as inert data: nothing that it names is ever imported, constructed or called.

``pickle.Unpickler`` runs what a file tells it to, and the usual defence, an allow-list in
``find_class``, still hands real callables to the file. This machine has none to hand out: it walks
the opcodes (parsed by the standard library's ``pickletools``) over a stack of plain values, and
what the file calls a class, an instance or a function call becomes a `Name`, a `Record` or a value
that a fixed table in this module makes of it.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_PICKLE_BYTES = 4 * 1024 * 1024  # the largest published pose checkpoint has under 1 MB


class PickleError(ValueError):
    """The pickle is damaged, or asks for something that no pose checkpoint needs."""


@dataclass(frozen=True)
class Name:
    """A class or function as the pickle names it. Only a label: never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Record:
    """What would be an instance of a class: the class's name and the attributes stored for it."""

    class_name: str
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def short_name(self) -> str:
        """The class's name without its module."""
        return self.class_name.rpartition(".")[2]

    @property
    def children(self) -> dict[str, Any]:
        """The submodules, if this is the record of a ``torch.nn.Module``: records or None."""
        modules = self.attributes.get("_modules")
        return modules if isinstance(modules, dict) else {}


@dataclass(frozen=True)
class StorageReference:
    """A block of numbers that lies in its own member of the archive."""

    dtype: str
    key: str
    numel: int


@dataclass(frozen=True)
class TensorReference:
    """A tensor: a strided view of a storage. Not checked against it yet."""

    storage: StorageReference
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


STORAGE_DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}

# Whatever lies below these modules is a class of a network or of its training, kept as a record.
_RECORD_MODULES = ("torch.nn.modules.", "ultralytics.", "models.", "pathlib.", "numpy.")
_RECORD_NAMES = {"numpy.ndarray", "numpy.dtype", "pathlib.PosixPath", "pathlib.WindowsPath"}

_MARK = object()


def brief(value: object) -> str:
    """A value for an error text. Never its whole repr: a small pickle may have an endless one."""
    if isinstance(value, str):
        return repr(value[:60])
    if value is None or isinstance(value, (bool, float, Name)):
        return str(value)[:80]
    if isinstance(value, int) and abs(value) < 2**64:
        return str(value)
    if isinstance(value, (tuple, list, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def _integers(values: object, what: str) -> tuple[int, ...]:
    if isinstance(values, (tuple, list)) and all(type(value) is int for value in values):
        return tuple(values)
    raise PickleError(f"{what} must be a tuple of integers, got {brief(values)}")


def _rebuild_tensor(arguments: Sequence[Any]) -> TensorReference:
    if len(arguments) < 4 or not isinstance(arguments[0], StorageReference):
        raise PickleError("a tensor must be made of storage, offset, shape and strides")
    storage, offset, shape, strides = arguments[:4]
    (offset,) = _integers((offset,), "a tensor's offset")
    return TensorReference(
        storage, offset, _integers(shape, "a tensor's shape"), _integers(strides, "its strides")
    )


def _first(arguments: Sequence[Any]) -> Any:
    if not arguments:
        raise PickleError("a parameter or size without a value")
    return arguments[0]


def _nothing(_: Sequence[Any]) -> None:
    return None


def _dictionary(arguments: Sequence[Any]) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for pair in _first(arguments) if arguments else ():
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise PickleError("a dictionary must be made of pairs")
        _set_item(result, pair[0], pair[1])
    return result


def _sequence(arguments: Sequence[Any]) -> tuple[Any, ...]:
    values = _first(arguments) if arguments else ()
    if not isinstance(values, (tuple, list)):
        raise PickleError(f"a size or set must be made of a list, got {brief(values)}")
    return tuple(values)


# What a call becomes. `getattr` stores a method in old Ultralytics heads and fused layers, and
# `_codecs.encode` is how protocol 2 stores bytes: neither carries anything that a network needs.
_CALLS: dict[str, Callable[[Sequence[Any]], Any]] = {
    "collections.OrderedDict": _dictionary,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.Size": _sequence,
    "__builtin__.set": _sequence,
    "builtins.set": _sequence,
    "__builtin__.getattr": _nothing,
    "builtins.getattr": _nothing,
    "_codecs.encode": _nothing,
}


def _is_storage(name: Name) -> bool:
    return name.module == "torch" and name.name in STORAGE_DTYPES


def _is_record(name: Name) -> bool:
    return str(name) in _RECORD_NAMES or f"{name.module}.".startswith(_RECORD_MODULES)


def _name(module: object, name: object) -> Name:
    if not isinstance(module, str) or not isinstance(name, str):
        raise PickleError("a class must be named by two strings")
    result = Name(module, name)
    if str(result) in _CALLS or _is_record(result) or _is_storage(result):
        return result
    raise PickleError(f"it names {str(result)[:120]!r}, which no pose checkpoint needs")


def _call(callee: object, arguments: object) -> Any:
    if not isinstance(callee, Name) or not isinstance(arguments, (tuple, list)):
        raise PickleError(f"it calls {brief(callee)}, which is not a known class or function")
    if str(callee) in _CALLS:
        return _CALLS[str(callee)](arguments)
    if _is_record(callee):
        return Record(str(callee), {"arguments": tuple(arguments)} if arguments else {})
    raise PickleError(f"it calls {callee}, which is not a function")


def _build(target: object, state: object) -> None:
    """Give attributes to a record. What else takes a state (an OrderedDict) does not need it."""
    if not isinstance(target, Record):
        return
    for part in state if isinstance(state, tuple) else (state,):
        if isinstance(part, dict):
            target.attributes.update({str(key): value for key, value in part.items()})


def _set_item(target: object, key: object, value: object) -> None:
    if not isinstance(target, dict):
        raise PickleError(f"it sets an item of {type(target).__name__}, expected a dictionary")
    if not isinstance(key, (str, int, float, bool, bytes, type(None))):
        raise PickleError(f"a key is a {type(key).__name__}, expected a string or a number")
    target[key] = value


def _extend(target: object, values: Sequence[object]) -> None:
    if not isinstance(target, list):
        raise PickleError(f"it appends to {type(target).__name__}, expected a list")
    target.extend(values)


def _storage(persistent_id: object) -> StorageReference:
    match persistent_id:
        case ("storage", Name() as kind, str(key), str(), int(numel)) if _is_storage(kind):
            return StorageReference(STORAGE_DTYPES[kind.name], key, numel)
    raise PickleError(
        f"expected a storage ('storage', type, key, device, size), got {brief(persistent_id)}"
    )


class _Machine:
    """The stack, the memo and what each opcode does to them."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise PickleError("its stack runs empty")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise PickleError("its stack runs empty")
        return self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        for position in range(len(self.stack) - 1, -1, -1):
            if self.stack[position] is _MARK:
                values = self.stack[position + 1 :]
                del self.stack[position:]
                return values
        raise PickleError("it closes a group that was never opened")

    def pop_pairs(self) -> list[tuple[Any, Any]]:
        values = self.pop_to_mark()
        if len(values) % 2:
            raise PickleError("a dictionary has a key without a value")
        return list(zip(values[::2], values[1::2], strict=True))

    def recall(self, index: Any) -> Any:
        if index not in self.memo:
            raise PickleError(f"it recalls value {index}, which was never stored")
        return self.memo[index]

    def step(self, opcode: str, argument: Any) -> None:
        push = self.stack.append
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                push(_MARK)
            case "BINGET" | "LONG_BINGET" | "GET":
                push(self.recall(argument))
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                self.memo[argument] = self.top()
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.top()
            case "NONE":
                push(None)
            case "NEWTRUE":
                push(True)
            case "NEWFALSE":
                push(False)
            case "EMPTY_TUPLE":
                push(())
            case "EMPTY_LIST":
                push([])
            case "EMPTY_DICT":
                push({})
            case "TUPLE":
                push(tuple(self.pop_to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                values = [self.pop() for _ in range(int(opcode[-1]))]
                push(tuple(reversed(values)))
            case "LIST":
                push(self.pop_to_mark())
            case "DICT":
                push(_dictionary([self.pop_pairs()]))
            case "APPEND":
                value = self.pop()
                _extend(self.top(), [value])
            case "APPENDS":
                values = self.pop_to_mark()
                _extend(self.top(), values)
            case "SETITEM":
                value, key = self.pop(), self.pop()
                _set_item(self.top(), key, value)
            case "SETITEMS":
                pairs = self.pop_pairs()
                for key, value in pairs:
                    _set_item(self.top(), key, value)
            case "GLOBAL":
                push(_name(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = self.pop(), self.pop()
                push(_name(module, name))
            case "REDUCE" | "NEWOBJ":
                arguments, callee = self.pop(), self.pop()
                push(_call(callee, arguments))
            case "BUILD":
                state = self.pop()
                _build(self.top(), state)
            case "BINPERSID":
                push(_storage(self.pop()))
            case _:
                raise PickleError(f"it uses the operation {opcode}, which no pose checkpoint needs")


# Operations that only put their own argument on the stack.
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
}


def read_pickle(data: bytes) -> Any:
    """Turn a pickle into plain values, names, records and references to storages.

    Args:
        data: the pickle, at most `MAX_PICKLE_BYTES` long.

    Returns:
        What the pickle describes, as dict, list, tuple, str, numbers, None, `Record` and
        `TensorReference`. It may contain itself (a pickle may be cyclic): who walks it must count.

    Raises:
        PickleError: it is damaged, too large, or names or does something that is not allowed.
    """
    if len(data) > MAX_PICKLE_BYTES:
        raise PickleError(f"it has {len(data)} bytes, expected at most {MAX_PICKLE_BYTES}")
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in _LITERALS:
                machine.stack.append(argument)
            elif opcode.name == "STOP":
                return machine.pop()
            else:
                machine.step(opcode.name, argument)
    except PickleError:
        raise
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        # pickletools raises these, and nothing else, for bytes that are no pickle.
        raise PickleError(f"it is damaged: {error}") from error
    raise PickleError("it ends without a result")
