"""Runs OpenVINO files (``.xml`` with its ``.bin``) in the place of a network of our own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pose_node.errors import CheckpointError, DeviceError, PoseNodeError
from pose_node.inference.exported_network import ExportedNetwork, check_input
from pose_node.inference.onnx_decoding import Anchors

METADATA_SECTION = "model_info"
"""Where the metadata stand among the runtime information of a file, as Ultralytics has it too."""


def load_openvino(
    path: str | os.PathLike[str],
    *,
    device: torch.device | str = "cpu",
    layout: str | None = None,
    num_keypoints: int | None = None,
    anchors: Anchors | None = None,
    threads: int | None = None,
) -> OpenVinoNetwork:
    """Load an OpenVINO file, to run on the CPU in float32.

    Args:
        path: the ``.xml``.
        device: "cpu".
        layout, num_keypoints, anchors, threads: see `pose_node.inference.onnx_network.load_onnx`.

    Raises:
        CheckpointError: the file or its ``.bin`` is missing, damaged or no pose model, or its
            layout is unknown or ambiguous.
        DeviceError: the device is another one.
        PoseNodeError: OpenVINO is not installed.
    """
    if torch.device(device).type != "cpu":
        raise DeviceError(f"device '{device}' cannot be used for OpenVINO files; choose 'cpu'")
    return OpenVinoNetwork(
        Path(path), layout=layout, num_keypoints=num_keypoints, anchors=anchors, threads=threads
    )


class OpenVinoNetwork(ExportedNetwork):
    """A network in an OpenVINO file; see `load_openvino` and `ExportedNetwork`."""

    def __init__(
        self,
        path: Path,
        *,
        layout: str | None = None,
        num_keypoints: int | None = None,
        anchors: Anchors | None = None,
        threads: int | None = None,
    ) -> None:
        openvino = _import_openvino()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # the processor's own choice may be bfloat16
            "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
        }
        for file in (path, path.with_suffix(".bin")):
            if not file.is_file():
                raise CheckpointError(f"cannot read {path}: there is no file {file}")
        try:
            core = openvino.Core()
            model = core.read_model(path)
            properties = _metadata_of(model)
            self._model = core.compile_model(model, "CPU", settings)
            shape, kind = _input_of(self._model)
        except (RuntimeError, ValueError, TypeError) as error:
            raise CheckpointError(f"cannot read {path}: {_last_line(error)}") from error
        super().__init__(
            path,
            check_input(shape, kind, path, len(self._model.inputs)),
            properties,
            layout=layout,
            num_keypoints=num_keypoints,
            anchors=anchors,
        )

    def _run(self, images: np.ndarray, outputs: Sequence[str] | None) -> dict[str, np.ndarray]:
        """See `ExportedNetwork._run`."""
        try:
            results = self._model([images])
        except (RuntimeError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"cannot run {self.path} on an input of {images.shape}: {_last_line(error)}"
            ) from error
        named = {_name(port, index): results[index] for index, port in enumerate(results)}
        return named if outputs is None else {name: named[name] for name in outputs}


def _import_openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise PoseNodeError(
            f"OpenVINO files need OpenVINO, which cannot be imported ({error}): "
            "`pip install 'pose-node[openvino]'`"
        ) from error
    return openvino


def _input_of(model: Any) -> tuple[list[int | None], str]:
    """Shape and type of the first input."""
    if not model.inputs:
        return [], "nothing"
    first = model.inputs[0]
    shape = [None if size.is_dynamic else size.get_length() for size in first.partial_shape]
    kind = first.element_type.get_type_name()
    return shape, {"f32": "float32", "f16": "float16"}.get(kind, kind)


def _metadata_of(model: Any) -> dict[str, str]:
    """The metadata that are text."""
    if not model.has_rt_info([METADATA_SECTION]):
        return {}
    section = model.get_rt_info([METADATA_SECTION]).astype(dict)
    values = {str(name): value.value for name, value in section.items()}
    return {name: value for name, value in values.items() if isinstance(value, str)}


def _name(port: Any, index: int) -> str:
    return str(min(port.get_names(), default=f"output {index}"))


def _last_line(error: Exception) -> str:
    """OpenVINO reports where in its sources an error arose, then what it is."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:400] if lines else type(error).__name__
