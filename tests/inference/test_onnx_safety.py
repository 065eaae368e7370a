"""ONNX files that name other files, and files that are none."""

from __future__ import annotations

import contextlib
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
