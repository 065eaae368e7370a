"""Runs OpenVINO files (``.xml`` with its ``.bin``) in the place of a network of our own."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pose_node.errors import CheckpointError, DeviceError, PoseNodeError
from pose_node.inference.exported_network import ExportedNetwork, check_input
from pose_node.inference.onnx_decoding import Anchors
from pose_node.process_settings import available_processors

MAX_PROGRAMS = 4
"""Sizes of input that get a program of their own, the first ones."""

_REPETITIONS = 6
"""Inputs of a size after which it gets one: compiling takes as long as some ten inputs, and warming
up an engine comes as far."""

_CAPABILITIES = "OPTIMIZATION_CAPABILITIES"

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
    half: bool = False,
) -> OpenVinoNetwork:
    """Load an OpenVINO file, to run on the CPU.

    Args:
        path: the ``.xml``.
        device: "cpu".
        layout, num_keypoints, anchors, threads: see `pose_node.inference.onnx_network.load_onnx`.
        half: compute in bfloat16 what takes long, instead of float32.

    Raises:
        CheckpointError: the file or its ``.bin`` is missing, damaged or no pose model, or its
            layout is unknown or ambiguous.
        DeviceError: the device is another one.
        PoseNodeError: OpenVINO is not installed.
        ValueError: the processor has no bfloat16.
    """
    check_openvino(device, half=half)
    return OpenVinoNetwork(
        Path(path),
        layout=layout,
        num_keypoints=num_keypoints,
        anchors=anchors,
        threads=threads,
        half=half,
    )


def check_openvino(device: torch.device | str, *, half: bool = False) -> None:
    """See that OpenVINO is there, and can compute so on this device.

    Raises:
        DeviceError: it is not the CPU.
        PoseNodeError: OpenVINO is not installed.
        ValueError: the processor has no bfloat16, which `half` needs.
    """
    if torch.device(device).type != "cpu":
        raise DeviceError(f"device '{device}' cannot be used for OpenVINO files; choose 'cpu'")
    openvino = _import_openvino()
    if half and "BF16" not in (able := openvino.Core().get_property("CPU", _CAPABILITIES)):
        raise ValueError(
            "half needs a processor with bfloat16 (AMD since Zen 4, Intel's Xeons since 2023), "
            f"this one has {', '.join(able)}; unset half"
        )


class OpenVinoNetwork(ExportedNetwork):
    """A network in an OpenVINO file; see `load_openvino` and `ExportedNetwork`.

    Sizes of input that come again and again get a program of their own, which is up to a tenth
    faster than that for all sizes.
    """

    def __init__(
        self,
        path: Path,
        *,
        layout: str | None = None,
        num_keypoints: int | None = None,
        anchors: Anchors | None = None,
        threads: int | None = None,
        half: bool = False,
    ) -> None:
        openvino = _import_openvino()
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",  # not the processor's choice
            "INFERENCE_NUM_THREADS": threads or available_processors(),
            # Pinned threads wait for their processor when a camera process has it.
            "ENABLE_CPU_PINNING": False,
        }
        for file in (path, path.with_suffix(".bin")):
            if not file.is_file():
                raise CheckpointError(f"cannot read {path}: there is no file {file}")
        self._programs: dict[tuple[tuple[int, ...], float | None], Any] = {}
        self._general: dict[float | None, Any] = {}
        self._seen: Counter[tuple[tuple[int, ...], float | None]] = Counter()
        try:
            self._core = openvino.Core()
            self._model = self._core.read_model(path)
            properties = _metadata_of(self._model)
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
            threads=threads,
        )

    def _run(self, images: np.ndarray, outputs: Sequence[str] | None) -> dict[str, np.ndarray]:
        """See `ExportedNetwork._run`."""
        return self._infer(images, images.shape, None, outputs)

    def _run_pixels(
        self, pixels: np.ndarray, outputs: Sequence[str] | None
    ) -> dict[str, np.ndarray]:
        """See `ExportedNetwork._run_pixels`: here, conversion is part of the compiled network."""
        batch, height, width, _ = pixels.shape
        return self._infer(pixels, (batch, 3, height, width), self._scale, outputs)

    def _infer(
        self,
        values: np.ndarray,
        shape: tuple[int, ...],
        scale: float | None,
        outputs: Sequence[str] | None,
    ) -> dict[str, np.ndarray]:
        try:
            program = self._program(shape, scale)
            results = program.infer([values], share_inputs=True)
        except (RuntimeError, ValueError, TypeError, MemoryError) as error:
            raise CheckpointError(
                f"cannot run {self.path} on an input of {shape}: {_last_line(error)}"
            ) from error
        named = {_name(port, index): results[index] for index, port in enumerate(results)}
        return named if outputs is None else {name: named[name] for name in outputs}

    def _program(self, shape: tuple[int, ...], scale: float | None) -> Any:
        """What runs inputs of a shape (B, 3, H, W); with a scale, their pixels."""
        own = self._programs.get((shape, scale))
        if own is not None:
            return own
        key = (shape, scale)
        self._seen[key] += 1
        fixed = self.input_size is not None and self.batch is not None  # one program is for all
        often = self._seen[key] == _REPETITIONS and not fixed
        if often and len(self._programs) < MAX_PROGRAMS:
            self._programs[key] = self._compile(shape, scale)
            return self._programs[key]
        if scale not in self._general:
            self._general[scale] = self._compile(None, scale)
        return self._general[scale]

    def _compile(self, shape: tuple[int, ...] | None, scale: float | None) -> Any:
        model = self._model.clone()
        if shape is not None:
            model.reshape(list(shape))
        if scale is not None:
            model = _taking_pixels(model, scale)
        return self._core.compile_model(model, "CPU", self._settings).create_infer_request()


def _taking_pixels(model: Any, scale: float) -> Any:
    """The same model for (B, H, W, 3) uint8."""
    openvino = _import_openvino()
    steps = openvino.preprocess.PrePostProcessor(model)
    images = steps.input(0)
    images.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    images.model().set_layout(openvino.Layout("NCHW"))
    images.preprocess().convert_element_type(openvino.Type.f32)
    if scale != 1:
        images.preprocess().scale(1 / scale)
    return steps.build()


def _import_openvino() -> Any:
    try:
        import openvino
        import openvino.preprocess
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
