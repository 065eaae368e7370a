"""ONNX files that name other files, and files that are none."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose_node.errors import CheckpointError
from pose_node.inference import onnx_safety
from pose_node.inference.onnx_safety import check_external_data

onnx = pytest.importorskip("onnx", reason="onnx missing: pip install onnx")


def tensor_from(location: str) -> Any:
    """A tensor whose numbers lie in another file."""
    tensor = onnx.TensorProto(name="weights", data_type=onnx.TensorProto.FLOAT, dims=[4])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def model_with(tensor: Any, where: str) -> bytes:
    """A model that holds a tensor in one of the places that it may stand in."""
    helper = onnx.helper
    nodes, initial, sparse, functions = [], [], [], []
    if where == "initializer":
        initial.append(tensor)
    elif where == "constant":
        nodes.append(helper.make_node("Constant", [], ["c"], value=tensor))
    elif where == "branch":
        inner = helper.make_graph([], "inner", [], [], [tensor])
        nodes.append(helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner))
    elif where == "sparse":
        sparse.append(onnx.SparseTensorProto(values=tensor, dims=[4]))
    else:
        node = helper.make_node("Constant", [], ["c"], value=tensor)
        functions.append(helper.make_function("here", "F", [], ["c"], [node], []))
    graph = helper.make_graph(nodes, "graph", [], [], initial, sparse_initializer=sparse)
    content: bytes = helper.make_model(graph, functions=functions).SerializeToString()
    return content


PLACES = ("initializer", "constant", "branch", "sparse", "function")


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "a/../../b", "link", "x\0y"])
def test_weights_elsewhere_are_refused(tmp_path: Path, where: str, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "link").symlink_to("../secret.bin")
    path = folder / "model.onnx"
    path.write_bytes(model_with(tensor_from(location), where))
    with pytest.raises(CheckpointError, match="expected a file in its own folder") as error:
        check_external_data(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("where", PLACES)
def test_weights_beside_the_file_are_fine(tmp_path: Path, where: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model_with(tensor_from("model.onnx.data"), where))
    check_external_data(path)
    assert list(onnx_safety._external_paths(memoryview(path.read_bytes()))).count("0") >= 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no ONNX file"),
        (b"\x0b", "wire type 3"),
        (b"\x02\x00", "a field has number 0"),
        (b"\x3a\x7f", "reaches beyond its end"),
        (b"\x09\x00", "reaches beyond its end"),
        (b"\x3a", "ends within a number"),
        (b"\xff" * 11, "more than ten bytes"),
    ],
)
def test_what_is_no_onnx_file(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=reason):
        check_external_data(path)
    with pytest.raises(CheckpointError, match="there is no such file"):
        check_external_data(tmp_path / "other.onnx")


def varint(number: int) -> bytes:
    """A number as protocol buffers write it."""
    head = b""
    while number > 0x7F:
        head, number = head + bytes([number & 0x7F | 0x80]), number >> 7
    return head + bytes([number])


def message(tag: int, content: bytes) -> bytes:
    return varint(tag) + varint(len(content)) + content


@pytest.mark.parametrize("bit", [32, 34, 35, 63])
def test_a_field_that_others_read_as_external_data_is_refused(tmp_path: Path, bit: int) -> None:
    """ONNX Runtime keeps 32 bits of a field's number, and read the file that we did not see."""
    entry = onnx.StringStringEntryProto(key="location", value="/etc/passwd").SerializeToString()
    path = tmp_path / "model.onnx"
    own = 13 << 3 | 2  # external data of a tensor
    for tag, reason in ((own, "a file in its own folder"), (own | 1 << bit, "1 to 536870911")):
        path.write_bytes(message(7 << 3 | 2, message(5 << 3 | 2, message(tag, entry))))
        with pytest.raises(CheckpointError, match=f"expected {reason}"):
            check_external_data(path)


def test_paths_are_read_as_they_are(tmp_path: Path) -> None:
    """Neither cut nor mended: what is looked at is what would be opened."""
    path = tmp_path / "model.onnx"
    path.write_bytes(model_with(tensor_from("./" * 2100 + "../secret.bin"), "initializer"))
    with pytest.raises(CheckpointError, match="more than 4096 bytes"):
        check_external_data(path)
    os.symlink("/etc/passwd", os.fsencode(tmp_path) + b"/l\xefnk")
    path.write_bytes(model_with(tensor_from("l?nk"), "initializer").replace(b"l?nk", b"l\xefnk"))
    with pytest.raises(CheckpointError, match="expected a file in its own folder"):
        check_external_data(path)


def test_endless_fields_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_safety, "MAX_FIELDS", 10)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x3a\x00" * 20)
    with pytest.raises(CheckpointError, match="more than 10 fields"):
        check_external_data(path)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_files_end_in_our_error(tmp_path_factory: Any, data: st.DataObject) -> None:
    content = bytearray(model_with(tensor_from("x.data"), data.draw(st.sampled_from(PLACES))))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        check_external_data(path)
