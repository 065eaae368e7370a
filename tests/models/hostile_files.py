"""Model files that want to do harm, each made here: nothing hostile is kept in the repository.

`hostile_files` gives them all. Those that would run something name `hostile_payload`, a module that
leaves a witness when imported or called, or run a command that touches the same witness.
"""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save

from pose_node.models.nodes import Layer, NetworkDescription, Node
from pose_node.models.pickle_machine import Name, Record, StorageReference, TensorReference
from tests.models.checkpoint_maker import (
    archived,
    encode,
    named,
    pickled,
    text,
    tiny_checkpoint,
    tiny_description,
    tiny_members,
)

PAYLOAD = """
import pathlib
witness = pathlib.Path(__file__).with_name("witness")
witness.touch()
def run(*arguments, **named):
    witness.touch()
class Innocent:
    __reduce__ = __setstate__ = __init__ = run
"""
"""Source of `hostile_payload`."""


@dataclass(frozen=True)
class HostileFile:
    """A file and what to expect of it.

    Attributes:
        make: its bytes.
        reason: a pattern of the error's text; None where it may be read, since nothing in it harms.
        suffix: of its name.
        size: to which it is lengthened with nothing (which takes no room on the disk).
    """

    make: Callable[[], bytes]
    reason: str | None
    suffix: str = ".pt"
    size: int = 0


def hostile_files(command: str) -> dict[str, HostileFile]:
    """All of them by name.

    Args:
        command: for the shell; it must leave the witness.
    """
    groups = {
        "call": _calls(command),
        "trick": _tricks(command),
        "bomb": _bombs(),
        "archive": _archives(),
        "tensor": _tensors(),
        "network": _networks(),
        "native": _natives(),
    }
    return {f"{group}-{name}": file for group, files in groups.items() for name, file in files}


Files = Iterator[tuple[str, HostileFile]]


def with_pickle(data: bytes) -> bytes:
    """A checkpoint with that pickle."""
    return archived({"m/data.pkl": data, "m/data/0": bytes(24)})


def _pickle(data: bytes, reason: str | None) -> HostileFile:
    return HostileFile(lambda: with_pickle(data), reason)


# --- Calls: every way in which a pickle can call, of everything that is worth it ----------------

_TARGETS = {
    "os.system": "{command}",
    "posix.system": "{command}",
    "nt.system": "{command}",
    "os.popen": "{command}",
    "os.execvp": "sh",
    "subprocess.Popen": "{command}",
    "subprocess.check_output": "{command}",
    "pty.spawn": "sh",
    "builtins.eval": "__import__('os').system('{command}')",
    "builtins.exec": "__import__('os').system('{command}')",
    "__builtin__.eval": "__import__('os').system('{command}')",
    "__builtin__.execfile": "/etc/passwd",
    "builtins.__import__": "hostile_payload",
    "builtins.open": "/etc/passwd",
    "builtins.compile": "1",
    "builtins.print": "x",
    "builtins.getattr.__call__": "x",
    "importlib.import_module": "hostile_payload",
    "runpy.run_module": "hostile_payload",
    "hostile_payload.run": "x",
    "hostile_payload.Innocent": "x",
    "pickle.loads": "x",
    "_pickle.loads": "x",
    "marshal.loads": "x",
    "types.FunctionType": "x",
    "types.CodeType": "x",
    "functools.partial": "x",
    "operator.attrgetter": "system",
    "operator.methodcaller": "system",
    "ctypes.CDLL": "libc.so.6",
    "socket.create_connection": "x",
    "urllib.request.urlopen": "file:///etc/passwd",
    "shutil.rmtree": "/nonexistent",
    "webbrowser.open": "x",
    "code.interact": "x",
    "timeit.timeit": "1",
    "bdb.Bdb": "x",
    "logging.config.listen": "x",
    "torch.load": "/etc/passwd",
    "torch.hub.load": "x",
    "torch.jit.load": "x",
    "torch.classes.load_library": "x",
    "torch.storage._load_from_bytes": "x",
    "torch._utils._rebuild_from_type_v2": "x",
    "torch._tensor._rebuild_from_type_v2": "x",
    "torch.utils.cpp_extension.load": "x",
    "torch.nn.Module": "x",
    "torch.serialization.load": "x",
    "numpy.load": "/etc/passwd",
    "numpy.fromfile": "/etc/passwd",
    "numpy.f2py.compile": "x",
    "numpy.core.multiarray.fromfile": "x",
    "pathlib.os.system": "{command}",
    "pathlib.Path.touch": "x",
    "collections.OrderedDict.fromkeys": "x",
    "ultralytics_evil.Model": "x",
    "modelsx.Model": "x",
}


def _calls(command: str) -> Files:
    for target, argument in _TARGETS.items():
        refused = rf"refused its pickle: it names '{target}'.*Nothing of it was run"
        value = text(argument.format(command=command))
        module, _, name = target.rpartition(".")
        yield f"{target}-reduce", _pickle(b"\x80\x02" + named(target) + value + b"\x85R.", refused)
        stacked = b"\x80\x04" + text(module) + text(name) + b"\x93"
        yield f"{target}-stack", _pickle(stacked + value + b"\x85R.", refused)
        # In the middle of what looks like a network, where a scanner might not look.
        hidden = {"model": Record("models.yolo.Model", {"a": [1, {"b": Record(target)}]})}
        yield f"{target}-hidden", _pickle(pickled(hidden), refused)
    system = named("os.system")
    value = text(command)
    operation = "refused its pickle: it uses the operation "
    line = command.encode()
    yield "text", _pickle(system + b"(S'" + line + b"'\ntR.", "names 'os.system'")
    yield "object", _pickle(b"(" + system + value + b"o.", "names 'os.system'")
    yield "instance", _pickle(b"(" + value + b"ios\nsystem\n.", operation + "INST")
    yield "new", _pickle(system + value + b"\x85\x81.", "names 'os.system'")
    model = named("models.yolo.Model")
    yield "new-named", _pickle(model + b")}\x92.", operation + "NEWOBJ_EX")
    yield "object-allowed", _pickle(b"(" + model + value + b"o.", operation + "OBJ")
    for code, name in ((b"\x82\x01", "EXT1"), (b"\x83\x01\x00", "EXT2"), (b"\x84\1\0\0\0", "EXT4")):
        yield name, _pickle(code + value + b"\x85R.", operation + name)
    yield "persistent-text", _pickle(b"P" + line + b"\n.", operation + "PERSID")
    yield "callee-text", _pickle(value + b")R.", "which is not a known class or function")
    yield "callee-record", _pickle(model + b")R)R.", "it calls a Record")
    yield "callee-call", _pickle(named("builtins.getattr") + b")R)R.", "it calls None")


class _Reduces:
    """What a Python program would pickle to run something."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.result = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.result


# --- Tricks: what is allowed, used in ways that it was not meant for ----------------------------


def _tricks(command: str) -> Files:
    import os

    shell = pickle.dumps(_Reduces(os.system, command), 2)
    model = named("models.yolo.Model")
    get = named("builtins.getattr")
    for protocol in (0, 1, 2, 3, 4, 5):
        data = pickle.dumps({"model": _Reduces(os.system, command)}, protocol)
        yield f"protocol-{protocol}", _pickle(data, "refused its pickle")
    # Nested pickles: they stay bytes
    yield "nested-bytes", _pickle(pickled({"model": shell}), "it holds no network")
    yield (
        "nested-encoded",
        _pickle(pickle.dumps({"model": shell}, 2), "a dictionary without a network"),
    )
    yield "nested-id", _pickle(encode(shell) + b"Q.", "expected a storage")
    yield (
        "nested-container-id",
        _pickle(
            encode(("module", Name("models.yolo", "Model"), "x.py", command)) + b"Q.",
            "expected a storage",
        ),
    )
    yield (
        "nested-array",
        _pickle(
            named("numpy.core.multiarray._reconstruct")
            + b"("
            + named("numpy.ndarray")
            + encode((0,))
            + encode(b"O")
            + b"tR"
            + encode((1, (1,), Record("numpy.dtype", {}), False, [shell]))
            + b"b.",
            "it holds no network|numpy",
        ),
    )
    yield (
        "second-pickle",
        HostileFile(
            lambda: with_pickle(pickled({"model": None}) + shell), "a dictionary without a network"
        ),
    )
    # To other objects through those that are allowed
    chain = get + b"(" + model + text("__init__") + b"tR"
    yield (
        "getattr-chain",
        _pickle(
            get + b"(" + chain + text("__globals__") + b"tR(" + text("os") + b"tR.", "it calls None"
        ),
    )
    yield (
        "getattr-of-class",
        _pickle(get + b"(" + model + text("__subclasses__") + b"tR)R.", "it calls None"),
    )
    states: dict[str, dict[Any, Any]] = {
        "setstate": {"__setstate__": Name("builtins", "getattr")},
        "class": {"__class__": Name("models.yolo", "Model")},
        "dict": {"__dict__": {"attributes": 1}},
        "reduce": {"__reduce_ex__": Name("builtins", "getattr")},
        "forward": {"forward": Name("builtins", "getattr"), "_forward_hooks": {0: command}},
        "slots": {"attributes": {}, "class_name": "os.system", "children": {}},
        "names": {"names": {0: shell}},
    }
    for name, state in states.items():
        content = {"model": Record("models.yolo.Model", state)}
        yield f"state-{name}", _pickle(pickled(content), "it has no list of layers")
        slots = model + b")\x81N" + encode(state) + b"\x86b."
        yield f"slots-{name}", _pickle(slots, "it has no list of layers")
        yield f"class-{name}", _pickle(model + encode(state) + b"b.", "it holds no network")

        def spoil(content: Any, state: Any = state) -> None:
            content["model"].children["model"].children["0"].attributes.update(state)

        yield f"layer-{name}", HostileFile(lambda spoil=spoil: tiny_checkpoint(spoil), None)
    # Strings that others have run: names of layers, of types, of functions in a model's settings
    evil = f"__import__('os').system('{command}')"

    def evaluate(content: Any) -> None:
        attributes = content["model"].attributes
        attributes["yaml"] = {"backbone": [[-1, 1, evil, [evil]]], "nc": evil, "activation": evil}
        attributes["names"] = {0: evil}
        for record in content["model"].children["model"].children.values():
            record.attributes |= {"type": evil, "forward": evil, "act": evil}

    yield "evaluated-text", HostileFile(lambda: tiny_checkpoint(evaluate), None)
    yield "terminal", _pickle(b"cmodels.\x1b[2J\nx\n.", r"names 'models.\\x1b\[2J")
    yield "long-name", _pickle(named("models." + "a" * 100_000), "longer than 200")


# --- Bombs: a few bytes that ask for much time or memory ----------------------------------------


def _bombs() -> Files:
    million = 1_000_000
    record = named("models.yolo.Model")

    def refused(data: bytes, reason: str) -> HostileFile:
        return _pickle(data, f"refused its pickle: {reason}")

    yield "dictionaries", refused(b"}" * 4 * million, "it makes more than")
    yield "lists", refused(b"]" * 4 * million, "it makes more than")
    yield "groups", refused(b"(" * 4 * million, "it opens more than")
    yield "tuples", refused(b")" + b"\x85" * 4 * million, "it makes more than")
    yield "records", refused(record + b"q\x00" + b"h\x00)\x81" * million, "it makes more than")
    inner = b"h\x00)\x81"
    yield (
        "records-nested",
        refused(
            record + b"q\x00" + (inner + b"}\x8c\x01a") * 120_000 + inner + b"sb" * 120_000 + b".",
            "its values are nested",
        ),
    )
    yield "nested", refused(b"]" * 300_000 + b"a" * 299_999 + b".", "its values are nested")
    yield (
        "nested-dictionaries",
        refused(b"}\x8c\x01a" * 300_000 + b"}" + b"s" * 300_000 + b".", "its values are nested"),
    )
    yield "nothings", refused(b"(" + b"N" * 4 * million + b"l.", "it would be more than")
    yield (
        "floats",
        _pickle(
            b"(" + b"G\x40\x09\x21\xfb\x54\x44\x2d\x18" * 440_000 + b"l.", "it holds no network"
        ),
    )
    yield "integers", _pickle(b"(" + b"M\x39\x30" * 1_300_000 + b"l.", "it holds no network")
    yield "strings", _pickle(b"(" + b"\x8c\x02ab" * million + b"l.", "it holds no network")
    yield "memo", _pickle(b"N" + b"\x94" * 4 * million + b".", "it holds no network")
    yield "memo-gap", _pickle(b"Nr\xf0\xff\x3f\x00" + b"0" * 10, "more than it has bytes")
    yield "memo-gaps", refused(b"N" + b"r\xff\xff\xff\xff" * 1000 + b".", "it stores value")
    doubled = b")" + b"q\x00h\x00h\x00\x86" * 60
    yield "laughs", refused(doubled + b".", "it would be more than")
    lists = b"".join(b"](h%ch%ceq%c" % (n, n, n + 1) for n in range(60))
    yield "laughs-lists", refused(b")q\x00" + lists + b".", "it would be more than")
    yield (
        "laughs-text",
        refused(
            text("a" * million) + b"q\x00(" + b"h\x00" * million + b"l.", "it would be more than"
        ),
    )
    yield "laughs-called", refused(doubled + b")R.", "it calls a tuple of 2")
    yield "laughs-key", refused(doubled + b"}h\x00Ns.", "a key is a tuple")
    yield "laughs-id", refused(doubled + b"Q.", "expected a storage")

    def laughing(content: Any) -> None:
        names: Any = ["x"] * 8
        for _ in range(40):
            names = [names] * 2
        content["model"].attributes["names"] = names

    yield "laughs-names", HostileFile(lambda: _with_memo(laughing), "it would be more than")
    big = b"(" + b"N" * million + b"lq\x00"
    sets = named("builtins.set") + b"q\x01" + b"h\x01h\x00\x85R" * 300_000
    yield "copied-sets", refused(big + sets + b".", "it makes more than")
    orders = named("collections.OrderedDict") + b"q\x01" + b"h\x01h\x00\x85R" * 300_000
    yield "copied-dictionaries", refused(big + orders + b".", "an OrderedDict must be made empty")
    keys = b"}(" + b"".join(text(f"{n:06}") + b"N" for n in range(100_000)) + b"uq\x00"
    states = record + b"q\x01" + b"h\x01)\x81h\x00b" * 200_000
    yield "copied-states", _pickle(keys + states + b".", "it has no list of layers")
    joined = record + b"q\x01" + b"h\x01N\x85Rh\x00b" * 200_000
    yield "joined-states", refused(keys + joined + b".", "it gives states over and over")
    shape = b"(" + b"K\x01" * million + b"tq\x00"
    rebuild = named("torch._utils._rebuild_tensor_v2") + b"q\x01"
    storage = encode(("storage", Name("torch", "HalfStorage"), "0", "cpu", 6)) + b"Qq\x02"
    one = b"h\x01(h\x02K\x00h\x00h\x00tR"
    yield "long-shapes", refused(shape + rebuild + storage + one * 100_000 + b".", "a tensor's sh")
    hashed = b"".join(
        b"\x8a\x10" + (n * (2**61 - 1)).to_bytes(16, "little") + b"N" for n in range(200_000)
    )
    yield "colliding-keys", refused(b"}(" + hashed + b"u.", "a key is")
    floats = b"".join(b"G" + struct.pack(">d", 2.0**n) + b"N" for n in range(1000)) * 300
    yield "float-keys", refused(b"}(" + floats + b"u.", "a key is a float")
    yield "long-integer", refused(b"\x8b\xff\xff\x3f\x00" + b"9" * 4 * million, "it uses the oper")
    yield "long-digits", refused(b"I" + b"9" * 4 * million + b"\n.", "it uses the operation INT")
    yield "long-float", refused(b"F" + b"9" * 4 * million + b"\n.", "it uses the operation FLOAT")
    yield "long-claim", refused(b"\x8d" + b"\xff" * 7 + b"\x7f.", "it is cut")
    yield (
        "names",
        refused(b"".join(b"cmodels.m\nc%d\n" % n for n in range(200_000)), "it names more than"),
    )
    yield (
        "name-copies",
        _pickle(
            b"cmodels.m\n" + b"c" * 190 + b"\nq\x00" + b"h\x00)\x81" * 300_000 + b".",
            "which is no pose network",
        ),
    )
    yield "too-long", _pickle(b"N" * 5 * million, "has 5000000 bytes, expected at most")
    cycle: list[Any] = []
    cycle.append(cycle)
    yield "cycle-list", refused(pickle.dumps(cycle, 2), "a list of 1 contains itself")
    yield (
        "cycle-record",
        refused(
            record + b")\x81q\x00}" + text("_modules") + b"}" + text("model") + b"h\x00ssb.",
            "a Record contains itself",
        ),
    )
    yield (
        "cycle-dictionary",
        refused(b"}q\x00" + text("model") + b"h\x00s.", "a dict of 1 contains itself"),
    )


def _with_memo(change: Callable[[Any], None]) -> bytes:
    """Written by `pickle` itself, so that what is shared is stored once."""
    record, members = tiny_members()
    content = {"model": record}
    change(content)
    names = pickle.dumps(content["model"].attributes.pop("names"), 2)[2:-1]
    data = pickled(content)[:-1]
    # Before the record (the last value) goes into its dictionary: give it another state.
    assert data[-1:] == b"u"
    data = data[:-1] + b"}" + text("names") + names + b"sbu."
    return archived({"tiny/data.pkl": data, **members})


# --- Archives that lie -------------------------------------------------------------------------


def _patched(data: bytes, signature: bytes, offset: int, form: str, *values: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(f"<{form}", changed, data.rindex(signature) + offset, *values)
    return bytes(changed)


def _archives() -> Files:
    good = tiny_checkpoint()
    central, local, end = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"
    pickle_ = pickled({"model": None})

    def changed(data: bytes, reason: str | None, size: int = 0) -> HostileFile:
        return HostileFile(lambda: data, reason, size=size)

    def members(reason: str, **extra: bytes) -> HostileFile:
        return HostileFile(lambda: archived({"m/data.pkl": pickle_, **extra}), reason)

    def compressed(level: int) -> bytes:
        import io

        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", level) as archive:
            archive.writestr("m/data.pkl", pickle_)
            archive.writestr("m/data/0", bytes(20_000_000))
        return buffer.getvalue()

    for name, level in (("deflate", 8), ("bzip2", 12), ("lzma", 14)):
        yield f"bomb-{name}", HostileFile(lambda level=level: compressed(level), "is compressed")
    yield "overlap", changed(_patched(good, central, 42, "L", 0), "they overlap")
    yield "overlap-many", HostileFile(_overlapping, "they overlap")
    yield "sizes", changed(_patched(good, central, 20, "2L", 2**32 - 1, 2**32 - 1), "they overlap")
    yield "sizes-differ", changed(_patched(good, central, 20, "L", 7), "is compressed or encr")
    yield "encrypted", changed(_patched(good, central, 8, "H", 1), "is compressed or encrypted")
    yield "masked", changed(_patched(good, central, 8, "H", 0x2000), "is compressed or encrypted")
    yield "offset", changed(_patched(good, central, 42, "L", 2**32 - 1), "they overlap")
    yield "local-name", changed(_patched(good, local, 30, "B", 120), "not what the directory says")
    yield "local-extra", changed(_patched(good, local, 28, "H", 65535), "not what the directory")
    yield "local-size", changed(_patched(good, local, 18, "2L", 9, 9), "not what the directory")
    yield "local-gone", changed(_patched(good, local, 0, "L", 0), "not what the directory says")
    yield (
        "checksum",
        changed(
            _patched(_patched(good, central, 16, "L", 5), local, 14, "L", 5),
            "its checksum is another",
        ),
    )
    yield "count", changed(_patched(good, end, 8, "2H", 65535, 65535), "claims 65535 members")
    yield "directory", changed(_patched(good, end, 12, "L", 2**32 - 1), "claims|not where its end")
    yield "directory-offset", changed(_patched(good, end, 16, "L", 2**32 - 1), "not where its end")
    yield "disks", changed(_patched(good, end, 4, "2H", 1, 1), "not where its end says")
    yield "comment", changed(_patched(good + b"x", end, 20, "H", 1), "damaged or cut archive")
    yield "appended", changed(good + b"MZ" * 100, "damaged or cut archive")
    yield "prepended", changed(b"MZ" * 100 + good, "not where its end says|not a zip archive")
    lie = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, *(2**40,) * 4)
    lie += struct.pack("<4sLQL", b"PK\x06\x07", 0, len(good) - 22, 1)
    yield "zip64", changed(good[:-22] + lie + good[-22:], "describes its directory twice")
    yield (
        "many",
        HostileFile(
            lambda: archived(
                {"m/data.pkl": pickle_, **{f"m/data/{n}": b"" for n in range(25_000)}}
            ),
            "claims 25001 members",
        ),
    )
    long = {f"m/data/{n}" + "x" * 60_000: b"" for n in range(150)}
    yield "long-names", HostileFile(lambda: archived({"m/data.pkl": pickle_, **long}), "claims 151")
    for name, path in {
        "parent": "m/../../evil",
        "absolute": "/etc/cron.d/evil",
        "backslash": "m\\..\\evil",
        "drive": "C:evil",
    }.items():
        yield f"name-{name}", members("a member outside itself", **{path: b""})
    yield (
        "name-nul",
        changed(
            archived({"m/data.pkl": pickle_, "m/evilx": b""}).replace(b"m/evilx", b"m/evi\0x"),
            "a member outside itself",
        ),
    )
    yield (
        "name-bytes",
        changed(
            archived({"m/data.pkl": pickle_, "m/evilx": b""}).replace(b"m/evilx", b"m/evi\xffx"),
            "without a proper name",
        ),
    )
    yield "link", changed(_patched(good, central, 38, "L", 0o120777 << 16), "is a symbolic link")
    yield (
        "twice",
        changed(
            archived({"m/data.pkl": pickle_, "m/data.pk2": pickle_}).replace(
                b"data.pk2", b"data.pkl"
            ),
            "is there twice",
        ),
    )
    yield "roots", members("found 2", **{"n/data.pkl": pickle_})
    yield "script", members("it is a TorchScript program", **{"m/constants.pkl": pickle_})
    yield "big-endian", members("not little-endian", **{"m/byteorder": b"big"})
    yield "no-order", members("not little-endian", **{"m/byteorder": b""})
    yield "empty", changed(b"", "not a zip archive")
    yield "nothing", changed(b"\0" * 100_000, "not a zip archive")
    yield "huge", changed(good, "expected at most", size=1 << 33)
    yield "pickle-alone", changed(pickle_, "not a zip archive")
    yield "cut", changed(good[: len(good) // 2], "damaged or cut archive")


def _overlapping() -> bytes:
    """A thousand members that are all the same 200 kB."""
    data = archived({"m/data.pkl": pickled({"model": None}), "m/data/0": bytes(200_000)})
    start = data.index(b"PK\x01\x02")
    entry = data[data.rindex(b"PK\x01\x02") : data.rindex(b"PK\x05\x06")]
    entries = data[start : data.rindex(b"PK\x05\x06")]
    for index in range(1, 1000):
        name = f"m/data/{index}".encode()
        head = bytearray(entry[:46])
        struct.pack_into("<H", head, 28, len(name))
        entries += bytes(head) + name
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1001, 1001, len(entries), start, 0)
    return data[:start] + entries + end


# --- Tensors that do not fit their storages -----------------------------------------------------


def _tensors() -> Files:
    def altered(reason: str, **fields: Any) -> HostileFile:
        def change(content: Any) -> None:
            conv = content["model"].children["model"].children["0"].children["conv"]
            parameters = conv.attributes["_parameters"]
            old = parameters["weight"]
            block = StorageReference(
                fields.pop("dtype", old.storage.dtype),
                fields.pop("key", old.storage.key),
                fields.pop("numel", old.storage.numel),
            )
            values = {"offset": 0, "shape": old.shape, "strides": old.strides, **fields}
            parameters["weight"] = TensorReference(block, **values)

        return HostileFile(lambda: tiny_checkpoint(change), reason)

    misfit = "does not fit its storage"
    yield "negative-stride", altered(misfit, strides=(-27, 9, 3, 1), offset=200)
    yield "overlapping-strides", altered(misfit, strides=(1, 1, 1, 1))
    yield "zero-strides", altered(misfit, shape=(1000, 1000), strides=(0, 0))
    yield "negative-offset", altered(misfit, offset=-1)
    yield "offset", altered(misfit, offset=1)
    yield "huge-offset", altered(misfit, offset=2**63)
    yield "huge-shape", altered(misfit, shape=(2**31, 2**31), strides=(1, 1))
    yield "huge-empty-shape", altered(misfit, shape=(0, 2**62), strides=(1, 1))
    yield "overflowing-shape", altered(misfit, shape=(2**33, 2**33), strides=(0, 0))
    yield "negative-shape", altered(misfit, shape=(-8, 3, 3, 3))
    yield "numel-larger", altered("should have 100000000 x 2 bytes", numel=10**8)
    yield "numel-smaller", altered(misfit, numel=10)
    yield "numel-huge", altered(misfit, numel=2**62)
    yield "numel-negative", altered(misfit, numel=-216)
    yield "type-wider", altered("should have 216 x 8 bytes", dtype="DoubleStorage")
    yield "type-unknown", altered("it names 'torch.QUInt8Storage'", dtype="QUInt8Storage")
    yield "key-missing", altered("'tiny/data/999' is missing", key="999")
    yield "key-path", altered("'tiny/data/../data.pkl' is missing", key="../data.pkl")
    yield "key-long", altered("is missing", key="9" * 100_000)
    yield "dimensions", altered("at most 8 integers", shape=(1,) * 9, strides=(1,) * 9)

    def infinite(data: bytes) -> bytes:
        record, members = tiny_members()
        members["tiny/data/0"] = data * 216
        return archived({"tiny/data.pkl": pickled({"model": record}), **members})

    yield "nan", HostileFile(lambda: infinite(b"\xff\xff"), "not finite")
    yield "infinity", HostileFile(lambda: infinite(b"\x00\x7c"), "not finite")

    def shared() -> bytes:
        """A list of modules that are all the same, with all the same 2 MB."""
        block = TensorReference(StorageReference("float16", "0", 10**6), 0, (10**6,), (1,))
        description = tiny_description()
        record, members = tiny_members(description)
        layers = record.children["model"].children
        for layer in layers.values():
            layer.attributes["_buffers"] = {f"b{index}": block for index in range(100)}
        members["tiny/data/0"] = bytes(2 * 10**6)
        return archived({"tiny/data.pkl": pickled({"model": record}), **members})

    yield "shared", HostileFile(shared, "used many times over|should have")

    def many() -> bytes:
        """As many tensors as fit, in modules that share them."""
        block = TensorReference(StorageReference("float16", "0", 1), 0, (1,), (1,))
        record, members = tiny_members()
        buffers = {f"b{index}": block for index in range(3000)}
        for layer in record.children["model"].children.values():
            layer.attributes["_buffers"] = buffers
        return archived({"tiny/data.pkl": pickled({"model": record}), **members})

    yield "many", HostileFile(many, "it would be more than")


# --- Networks that would take too much ----------------------------------------------------------


def _networks() -> Files:
    def described(reason: str, change: Callable[[list[Layer]], None]) -> HostileFile:
        def make() -> bytes:
            base = tiny_description()
            layers = list(base.layers)
            change(layers)
            description = NetworkDescription(base.family, tuple(layers), base.class_names)
            return tiny_checkpoint(description=description)

        return HostileFile(make, reason)

    def altered(reason: str, change: Callable[[Any], None]) -> HostileFile:
        def make() -> bytes:
            return tiny_checkpoint(lambda content: change(content["model"].children["model"]))

        return HostileFile(make, reason)

    def setting(layer: str, path: str, name: str, value: Any) -> Callable[[Any], None]:
        def change(sequence: Any) -> None:
            record = sequence.children[layer]
            for part in path.split(".") if path else ():
                record = record.children[part]
            record.attributes[name] = value

        return change

    settings: dict[str, tuple[str, str, str, Any, str]] = {
        "channels": ("0", "conv", "out_channels", 10**12, "out_channels must be 1 to"),
        "channels-float": ("0", "conv", "out_channels", 1e300, "cannot be built"),
        "channels-negative": ("0", "conv", "in_channels", -1, "in_channels must be 1 to"),
        "kernel": ("0", "conv", "kernel_size", (10**6, 10**6), "has shape|cannot be built"),
        "kernel-overflow": ("0", "conv", "kernel_size", (2**62, 2**62), "cannot be built"),
        "stride-zero": ("0", "conv", "stride", (0, 0), "do not fit|cannot be built"),
        "padding": ("0", "conv", "padding", (10**9, 10**9), "pads by"),
        "padding-text": ("0", "conv", "padding", "same", "cannot be built|do not fit"),
        "groups-zero": ("0", "conv", "groups", 0, "cannot be built"),
        "dilation": ("0", "conv", "dilation", (2**40, 2**40), "do not fit|cannot be built"),
        "pool": ("4", "m", "kernel_size", 10**9, "do not fit|cannot be built"),
        "pools": ("4", "", "n", 10**6, "cannot be built"),
        "upsample": ("6", "", "scale_factor", 10**6, "must double its input"),
        "heads": ("5", "m.0.attn", "num_heads", 0, "do not fit|cannot be built"),
        "heads-many": ("5", "m.0.attn", "num_heads", 10**12, "do not fit|cannot be built"),
        "keypoints": ("9", "", "kpt_shape", (10**9, 3), "channels|cannot be built"),
        "keypoints-text": ("9", "", "kpt_shape", ("x" * 1000, "y"), "cannot be built"),
        "bins": ("9", "", "reg_max", 10**12, "channels|cannot be built"),
        "epsilon": ("0", "bn", "num_features", 2**40, "num_features must be 1 to"),
        "inputs-late": ("3", "", "f", [7], "reads layers"),
        "inputs-many": ("3", "", "f", [-1] * 9, "reads layers"),
        "inputs-huge": ("3", "", "f", [10**30], "reads layers"),
        "inputs-text": ("3", "", "f", "x" * 10**6, "reads 'xxx"),
        "setting-laughs": ("9", "", "nc", [[1] * 8] * 8, "cannot be built|do not fit|channels"),
        "setting-record": ("9", "", "nc", Record("models.x.Y", {}), "should be a number"),
    }
    for name, (layer, path, key, value, reason) in settings.items():
        yield name, altered(reason, setting(layer, path, key, value))
    upsample = Layer((-1,), Node("Upsample", {"scale_factor": 2.0, "mode": "nearest"}))

    def enlarge(layers: list[Layer]) -> None:
        layers[0:0] = [upsample] * 12

    yield "enlarged", described("an image of 64 x 64 would take more", enlarge)

    def attend(layers: list[Layer]) -> None:
        """Every position of a large map with every other: 16 GB."""
        layers[6:6] = [upsample] * 5 + [layers[5]]

    yield "attention", described("an image of 64 x 64 would take more", attend)

    def keep(layers: list[Layer]) -> None:
        """Large maps, all of which are needed later."""
        layers[0:0] = [upsample] * 3 + [Layer((-1,), Node("SiLU"))] * 230
        layers += [Layer((-1 - index,), Node("SiLU")) for index in range(230)]

    yield "kept", described("an image of 64 x 64 would take more|not a pose head", keep)

    def wide(sequence: Any) -> None:
        parts = {str(index): Record("models.m.SiLU", {}) for index in range(100)}
        sequence.children["0"].children["act"] = Record("models.m.Sequential", {"_modules": parts})

    yield "parts", altered("more than 32 parts", wide)

    def deep(sequence: Any) -> None:
        record = Record("torch.nn.modules.activation.SiLU", {})
        for _ in range(40):
            record = Record("torch.nn.modules.container.Sequential", {"_modules": {"0": record}})
        sequence.children["0"].children["act"] = record

    yield "deep", altered("levels", deep)

    yield "twins", HostileFile(_twins, "it would be more than|modules")

    def long(layers: list[Layer]) -> None:
        layers[0:0] = [Layer((-1,), Node("SiLU"))] * 600

    yield "layers", described("more than 512 layers", long)
    yield "no-layers", altered("not a pose head", lambda sequence: sequence.children.clear())
    yield (
        "layer-nothing",
        altered("should be a module", lambda sequence: sequence.children.update({"0": 5})),
    )
    yield (
        "layer-unknown",
        altered(
            "which is unknown",
            lambda sequence: sequence.children.update({"0": Record("models.common.System", {})}),
        ),
    )


def _twins() -> bytes:
    """Each module holds the next one twice, thirty levels deep."""
    module = named("torch.nn.modules.container.Sequential") + b")\x81}" + text("_modules") + b"}("
    data = named("torch.nn.modules.activation.SiLU") + b")\x81q\x00"
    for _ in range(30):
        data += module + text("0") + b"h\x00" + text("1") + b"h\x00usbq\x00"
    model = named("models.yolo.Model") + b")\x81}" + text("_modules") + b"}" + text("model")
    return with_pickle(data + model + b"h\x00ssb.")


# --- Native files ------------------------------------------------------------------------------


def _natives() -> Files:
    record, members = tiny_members()
    description = json.dumps(tiny_description().to_json())
    weights: dict[str, torch.Tensor] = {}
    _collect(record.children["model"], members, "model.", weights)
    good = save(weights, {"pose_node": "1", "description": description})

    def file(data: bytes, reason: str | None, size: int = 0) -> HostileFile:
        return HostileFile(lambda: data, reason, ".safetensors", size)

    def headed(header: bytes, reason: str, data: bytes = b"") -> HostileFile:
        return file(len(header).to_bytes(8, "little") + header + data, reason)

    def metadata(reason: str | None, **values: str) -> HostileFile:
        return file(save(weights, {"pose_node": "1", "description": description} | values), reason)

    yield "good", file(good, None)
    yield "header-long", file(b"\xff" * 7 + b"\x7f" + good[8:], "shorter than its header")
    yield "header-whole", file((100_000_000).to_bytes(8, "little"), "at most 1048576", 200_000_000)
    yield "header-deep", headed(b"[" * 1_000_000, "it is damaged")
    yield "header-text", headed(b"\xff" * 1000, "it is damaged")
    yield "header-empty", headed(b"{}", "no pose_node description")
    yield "huge", file(good, "expected at most", 1 << 33)
    entry = '"%s":{"dtype":"F32","shape":[%d],"data_offsets":[%d,%d]}'

    def entries(*rows: tuple[str, int, int, int], data: int = 64) -> HostileFile:
        header = "{" + ",".join(entry % row for row in rows) + "}"
        return headed(header.encode(), "it is damaged", bytes(data))

    yield "overlapping", entries(("a", 8, 0, 32), ("b", 8, 16, 48))
    yield "hole", entries(("a", 4, 0, 16), ("b", 4, 32, 48))
    yield "beyond", entries(("a", 2**40, 0, 2**42))
    yield "backwards", entries(("a", 4, 16, 0))
    yield "shape-lie", entries(("a", 1000, 0, 64))
    yield "overflow", entries(("a", 2**63, 0, 64))
    yield "json-cut", metadata("cannot read", description="{")
    yield "json-deep", metadata("recursion", description="[" * 900_000)
    yield "json-nan", metadata("the number NaN", description='{"family":NaN}')
    yield "json-infinity", metadata("the number", description='{"family":1e999}')
    yield "json-digits", metadata("the number", description="[" + "9" * 100_000 + "]")
    yield "json-kind", metadata("expected a description", description="[]")
    yield "json-many", metadata("expected a description", description="[" + "{}," * 300_000 + "{}]")
    yield "version", metadata("of version 1", pose_node="2")

    def described(reason: str, change: Callable[[Any], None]) -> HostileFile:
        value = json.loads(description)
        change(value)
        return metadata(reason, description=json.dumps(value))

    def nested(value: Any) -> None:
        node: dict[str, Any] = {"kind": "SiLU"}
        for _ in range(40):
            node = {"kind": "Sequential", "parts": {"0": node}}
        value["layers"][0]["block"]["parts"]["act"] = node

    yield "nested", described("nested more than", nested)

    def many(value: Any) -> None:
        flat = {str(index): {"kind": "SiLU"} for index in range(30)}
        value["layers"][0:0] = [
            {"inputs": [-1], "block": {"kind": "Sequential", "parts": flat}}
        ] * 1000

    yield "modules", described("more than", many)
    yield "inputs", described("reads layers", lambda v: v["layers"][0].update(inputs=[[[-1]]] * 99))
    yield "names", described("has shape|are missing|cannot", lambda v: v["layers"].pop(0))
    for dtype in (torch.uint8, torch.bool, torch.float8_e4m3fn):
        odd = {**weights, "model.0.conv.weight": torch.zeros(8, 3, 3, 3).to(dtype)}
        data = save(odd, {"pose_node": "1", "description": description})
        yield f"type-{str(dtype)[6:]}", file(data, "expected F64, F32")
    endless = {**weights, "model.0.conv.weight": torch.full((8, 3, 3, 3), torch.nan)}
    yield "nan", file(save(endless, {"pose_node": "1", "description": description}), "not finite")
    yield "cut", file(good[:-1], "it is damaged")
    yield "appended", file(good + b"x" * 100, "it is damaged")
    yield "checkpoint", file(tiny_checkpoint(), "shorter than its header|it is damaged")


def _collect(
    record: Record, members: dict[str, bytes], prefix: str, weights: dict[str, torch.Tensor]
) -> None:
    for name, reference in record.attributes.get("_parameters", {}).items():
        data = bytearray(members[f"tiny/data/{reference.storage.key}"])
        weights[prefix + name] = torch.frombuffer(data, dtype=torch.float16).view(reference.shape)
    for name, child in record.children.items():
        _collect(child, members, f"{prefix}{name}.", weights)
