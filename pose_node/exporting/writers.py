"""Writes a network in the formats of other programs, and opens what was written."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pose_node.errors import PoseNodeError
from pose_node.exporting.graph import ExportedGraph
from pose_node.inference.onnx_session import OnnxSession
from pose_node.inference.openvino_network import METADATA_SECTION

Runner = Callable[[Tensor], Tensor]
"""Runs a written file: images to its one output."""

_INPUT, _OUTPUT = "images", "output0"
METADATA_FILE = "config.txt"
"""Where TorchScript and torch.export files keep their metadata, as JSON."""


@dataclass(frozen=True)
class Shape:
    """What an export takes.

    Attributes:
        batch, height, width: images, and their size; examples where the export is dynamic.
        dynamic: whether it takes any number of images of any size in steps of `stride`.
        stride: that of the network.
    """

    batch: int
    height: int
    width: int
    dynamic: bool
    stride: int


@dataclass(frozen=True)
class Format:
    """A format that can be written.

    Attributes:
        name: what the user calls it.
        suffix: of the file.
        write: graph, shape, operator set, metadata and path to files.
        open: a written file to its runner.
    """

    name: str
    suffix: str
    write: Callable[[ExportedGraph, Shape, int, dict[str, str], Path], None]
    open: Callable[[Path], Runner]


def _example(shape: Shape) -> Tensor:
    # Two images: torch takes a batch of one for a constant.
    batch = max(shape.batch, 2) if shape.dynamic else shape.batch
    return torch.full((batch, 3, shape.height, shape.width), 0.5)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporters' remarks about themselves from the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _parameters(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters)


def _need(extra: str, *modules: str) -> list[Any]:
    """Import optional packages."""
    try:
        return [importlib.import_module(module) for module in modules]
    except ImportError as error:
        raise PoseNodeError(
            f"this format needs {' and '.join(modules)}, which cannot be imported ({error}): "
            f"`pip install 'pose-node[{extra}]'`"
        ) from error


# --- ONNX ---------------------------------------------------------------------------------------


def _write_onnx(
    graph: ExportedGraph, shape: Shape, opset: int, metadata: dict[str, str], path: Path
) -> None:
    onnx, _ = _need("onnx", "onnx", "onnxruntime")  # the latter to look at the result
    axes = None
    if shape.dynamic:
        rows = {} if graph.network.end_to_end else {2: "anchors"}
        axes = {_INPUT: {0: "batch", 2: "height", 3: "width"}, _OUTPUT: {0: "batch", **rows}}
    with _quiet(), torch.inference_mode():
        # The exporter that records: the newer one needs further packages.
        recording: dict[str, Any] = {}
        if "dynamo" in _parameters(torch.onnx.export):
            recording["dynamo"] = False
        torch.onnx.export(
            graph,
            (_example(shape),),
            str(path),
            **recording,
            opset_version=opset,
            input_names=[_INPUT],
            output_names=[_OUTPUT],
            dynamic_axes=axes,
        )
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, str(path))


def _open_onnx(path: Path) -> Runner:
    session = OnnxSession(path)
    return lambda images: torch.from_numpy(session.run(images.numpy())[_OUTPUT])


# --- OpenVINO -----------------------------------------------------------------------------------


def _write_openvino(
    graph: ExportedGraph, shape: Shape, opset: int, metadata: dict[str, str], path: Path
) -> None:
    openvino, *_ = _need("openvino", "openvino", "onnx", "onnxruntime")
    intermediate = path.with_suffix(".onnx")
    _write_onnx(graph, shape, opset, {}, intermediate)
    model = openvino.Core().read_model(intermediate)
    intermediate.unlink()
    for name, value in metadata.items():
        model.set_rt_info(value, [METADATA_SECTION, name])
    openvino.save_model(model, path, compress_to_fp16=False)


def _open_openvino(path: Path) -> Runner:
    (openvino,) = _need("openvino", "openvino")
    # The processor's own choice may be bfloat16.
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    return lambda images: torch.from_numpy(compiled(images.numpy())[0].copy())


# --- torch --------------------------------------------------------------------------------------


def _write_torchscript(
    graph: ExportedGraph, shape: Shape, opset: int, metadata: dict[str, str], path: Path
) -> None:
    with _quiet(), torch.inference_mode():
        script = torch.jit.trace(  # type: ignore[no-untyped-call]
            graph, _example(shape), check_trace=False
        )
        # torch's own writer of files ends the process when the disk is full.
        content = io.BytesIO()
        torch.jit.save(script, content, _extra_files={METADATA_FILE: json.dumps(metadata)})
    path.write_bytes(content.getbuffer())


def _open_torchscript(path: Path) -> Runner:
    with _quiet():
        script: Runner = torch.jit.load(str(path), "cpu")  # type: ignore[no-untyped-call]
    return script


def _write_torch_export(
    graph: ExportedGraph, shape: Shape, opset: int, metadata: dict[str, str], path: Path
) -> None:
    sizes = None
    if shape.dynamic:
        batch = torch.export.Dim("batch", min=1, max=256)
        height = shape.stride * torch.export.Dim("rows", min=1, max=8192 // shape.stride)
        width = shape.stride * torch.export.Dim("columns", min=1, max=8192 // shape.stride)
        sizes = {"images": {0: batch, 2: height, 3: width}}
    with _quiet(), torch.no_grad():
        program = torch.export.export(graph, (_example(shape),), dynamic_shapes=sizes)
        content = io.BytesIO()
        torch.export.save(program, content, extra_files={METADATA_FILE: json.dumps(metadata)})
    path.write_bytes(content.getbuffer())


def _open_torch_export(path: Path) -> Runner:
    with _quiet():
        module: Runner = torch.export.load(str(path)).module()
    return module


FORMATS = {
    form.name: form
    for form in (
        Format("onnx", ".onnx", _write_onnx, _open_onnx),
        Format("openvino", ".xml", _write_openvino, _open_openvino),
        Format("torchscript", ".torchscript", _write_torchscript, _open_torchscript),
        Format("torch-export", ".pt2", _write_torch_export, _open_torch_export),
    )
}
"""The formats by name."""
