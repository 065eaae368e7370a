"""The values that a checkpoint's pickle can describe: plain ones, and labels for everything else.

What the file calls a class, an instance, a function call or a block of numbers becomes one of the
dataclasses below, or what a fixed table in this module makes of it. None of them can do anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_DIMENSIONS = 8
MAX_NAME = 200  # characters of a class's module, and of its name
MAX_KEY = 128  # characters of a dictionary's key; the longest in a published file has about 50
MAX_INTEGER_KEY = 65_535


class PickleError(ValueError):
    """The pickle is damaged, or asks for something that no pose checkpoint needs."""


@dataclass(frozen=True)
class Name:
    """A class or function as the pickle names it. Only a label: never looked up."""

    module: str
    name: str
    text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", f"{self.module}.{self.name}")

    def __str__(self) -> str:
        return self.text


@dataclass(eq=False, slots=True)
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


@dataclass(frozen=True, slots=True)
class StorageReference:
    """A block of numbers that lies in its own member of the archive."""

    dtype: str
    key: str
    numel: int


@dataclass(frozen=True, slots=True)
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
_RECORD_MODULES = ("torch.nn.modules.", "ultralytics.", "models.")
_RECORD_NAMES = {
    *("numpy.ndarray", "numpy.dtype"),
    *(
        f"numpy.{core}.multiarray.{name}"
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    ),
    *(
        f"{module}.{name}"
        for module in ("pathlib", "pathlib._local")
        for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    ),
}


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


def _integer(value: object, what: str) -> int:
    if type(value) is not int:
        raise PickleError(f"{what} must be an integer, got {brief(value)}")
    return value


def _integers(values: object, what: str) -> tuple[int, ...]:
    """Checks the length first: many tensors may share one endless tuple."""
    if not isinstance(values, tuple) or len(values) > MAX_DIMENSIONS:
        raise PickleError(
            f"{what} must be a tuple of at most {MAX_DIMENSIONS} integers, got {brief(values)}"
        )
    for value in values:
        _integer(value, what)
    return values


def _rebuild_tensor(arguments: Sequence[Any]) -> TensorReference:
    if len(arguments) < 4 or not isinstance(arguments[0], StorageReference):
        raise PickleError("a tensor must be made of storage, offset, shape and strides")
    return TensorReference(
        arguments[0],
        _integer(arguments[1], "a tensor's offset"),
        _integers(arguments[2], "a tensor's shape"),
        _integers(arguments[3], "a tensor's strides"),
    )


def _parameter(arguments: Sequence[Any]) -> TensorReference:
    if arguments and isinstance(arguments[0], TensorReference):
        return arguments[0]
    raise PickleError(f"a parameter must be made of a tensor, got {brief(arguments[:1])}")


def _nothing(_: Sequence[Any]) -> None:
    return None


def _dictionary(arguments: Sequence[Any]) -> dict[Any, Any]:
    """An empty one: pickles fill an OrderedDict afterwards, like any other dictionary."""
    if arguments:
        raise PickleError("an OrderedDict must be made empty and then filled")
    return {}


def _sequence(arguments: Sequence[Any]) -> Sequence[Any]:
    """A set or a size as the very list or tuple that it is made of; a copy would cost memory."""
    values = arguments[0] if arguments else ()
    if not isinstance(values, (tuple, list)):
        raise PickleError(f"a size or set must be made of a list, got {brief(values)}")
    return values


# What a call becomes. `getattr` stores a method in old Ultralytics heads and fused layers, and
# `_codecs.encode` is how protocol 2 stores bytes: neither carries anything that a network needs.
# Nothing here copies what it is given, so that a short pickle cannot repeat a long copy.
_CALLS: dict[str, Callable[[Sequence[Any]], Any]] = {
    "collections.OrderedDict": _dictionary,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
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
    return name.text in _RECORD_NAMES or f"{name.module}.".startswith(_RECORD_MODULES)


def checked_name(module: object, name: object) -> Name:
    """The name of a class or function that pose checkpoints are known to use.

    Raises:
        PickleError: it is another.
    """
    if not isinstance(module, str) or not isinstance(name, str):
        raise PickleError("a class must be named by two strings")
    if len(module) > MAX_NAME or len(name) > MAX_NAME:
        raise PickleError(f"it names {module[:40]!r}..., longer than {MAX_NAME} characters")
    result = Name(module, name)
    proper = all(part.isidentifier() for part in result.text.split("."))
    if proper and (result.text in _CALLS or _is_record(result) or _is_storage(result)):
        return result
    raise PickleError(f"it names {result.text[:120]!r}, which no pose checkpoint needs")


def call(callee: object, arguments: object) -> Any:
    """What the call of a named class or function becomes.

    Raises:
        PickleError: it is none, or its arguments do not fit.
    """
    if not isinstance(callee, Name) or not isinstance(arguments, tuple):
        raise PickleError(f"it calls {brief(callee)}, which is not a known class or function")
    if callee.text in _CALLS:
        return _CALLS[callee.text](arguments)
    if _is_record(callee):
        return Record(callee.text, {"arguments": arguments} if arguments else {})
    raise PickleError(f"it calls {callee}, which is not a function")


def storage(persistent_id: object) -> StorageReference:
    """The storage that a persistent id stands for.

    Raises:
        PickleError: it is no storage's.
    """
    match persistent_id:
        case ("storage", Name() as kind, str(key), str(), int(numel)) if _is_storage(kind):
            return StorageReference(STORAGE_DTYPES[kind.name], key, int(numel))
    raise PickleError(
        f"expected a storage ('storage', type, key, device, size), got {brief(persistent_id)}"
    )


def set_item(target: object, key: object, value: object) -> None:
    """Set an item of a dictionary.

    Keys are such that no choice of them makes a dictionary slow: the hash of a string is not to be
    foreseen, and small integers never collide. Floats and large integers can be made to.

    Raises:
        PickleError: `target` is no dictionary, or `key` is of another kind.
    """
    if type(target) is not dict:
        raise PickleError(f"it sets an item of {type(target).__name__}, expected a dictionary")
    if type(key) is str:
        if len(key) > MAX_KEY:
            raise PickleError(f"a key has {len(key)} characters, expected at most {MAX_KEY}")
    elif type(key) is int:
        if not -1 <= key <= MAX_INTEGER_KEY:
            raise PickleError(f"a key is {brief(key)}, expected at most {MAX_INTEGER_KEY}")
    elif key is not None and type(key) is not bool:
        raise PickleError(f"a key is a {type(key).__name__}, expected a string or a whole number")
    target[key] = value
