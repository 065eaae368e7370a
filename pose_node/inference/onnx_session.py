"""Opens and runs ONNX files with ONNX Runtime, and turns what it raises into our errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pose_node.errors import CheckpointError, DeviceError, PoseNodeError
from pose_node.inference.onnx_safety import check_external_data
from pose_node.process_settings import available_processors

_ONLY_FATAL = 4  # of ONNX Runtime's levels of logging: what it reports, it also raises


class OnnxSession:
    """One ONNX file, ready to run.

    Args:
        path: the file.
        device: "cpu", "cuda" or "cuda:N".
        threads: on the CPU; None takes as many as there are processors.

    Attributes:
        inputs: shape and type of each input by name, as ONNX Runtime states them.
        metadata: the file's own.
        threads: on the CPU.

    Raises:
        CheckpointError: the file is missing, damaged or hostile.
        DeviceError: ONNX Runtime cannot use the device.
        PoseNodeError: ONNX Runtime is not installed.
    """

    def __init__(
        self, path: Path, *, device: torch.device | str = "cpu", threads: int | None = None
    ) -> None:
        runtime = _import_runtime()
        check_external_data(path)
        device = torch.device(device)
        self.path = path
        self._errors = _errors_of(runtime)
        options = runtime.SessionOptions()
        options.log_severity_level = _ONLY_FATAL
        self.threads = options.intra_op_num_threads = threads or available_processors()
        options.inter_op_num_threads = 1
        # Threads wait busily within a run, which is faster, but not after it: that would take the
        # processor from the camera and everybody else.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        # Whatever the file's name, only this format has been checked.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        try:
            self._session = runtime.InferenceSession(
                str(path), sess_options=options, providers=_providers(runtime, device)
            )
        except self._errors as error:
            raise CheckpointError(f"cannot read {path}: {_first_line(error)}") from error
        if device.type == "cuda" and "CUDAExecutionProvider" not in self._session.get_providers():
            raise DeviceError(
                f"device '{device}' cannot be used for {path}: the CUDA part of ONNX Runtime "
                f"{runtime.__version__} does not start; check that the CUDA and cuDNN versions "
                "that it needs are installed, or choose device 'cpu'"
            )
        self.inputs = {item.name: (item.shape, item.type) for item in self._session.get_inputs()}
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map

    def run(
        self, images: np.ndarray, outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run the file on its first input.

        Args:
            images: the input, contiguous, of the input's type.
            outputs: names of the outputs that are needed; None for all.

        Returns:
            The outputs by name, in the order asked for, else that of the file.

        Raises:
            CheckpointError: it failed, or gives something else than arrays.
        """
        names = list(outputs or (output.name for output in self._session.get_outputs()))
        try:
            values = self._session.run(names, {next(iter(self.inputs)): images})
        except self._errors as error:
            raise CheckpointError(
                f"cannot run {self.path} on an input of {images.shape}: {_first_line(error)}"
            ) from error
        if not all(isinstance(value, np.ndarray) for value in values):
            raise CheckpointError(f"cannot use {self.path}: expected tensors, got other outputs")
        return dict(zip(names, values, strict=True))


def check_onnxruntime(device: torch.device | str) -> None:
    """Raises DeviceError or PoseNodeError if ONNX Runtime is not there or not for this device."""
    _providers(_import_runtime(), torch.device(device))


def _import_runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise PoseNodeError(
            f"ONNX files need ONNX Runtime, which cannot be imported ({error}): "
            "`pip install 'pose-node[onnx]'`, or onnxruntime-gpu for an NVIDIA GPU"
        ) from error
    return onnxruntime


def _providers(runtime: Any, device: torch.device) -> list[Any]:
    if device.type == "cpu":
        return ["CPUExecutionProvider"]
    available = runtime.get_available_providers()
    if device.type != "cuda" or "CUDAExecutionProvider" not in available:
        raise DeviceError(
            f"device '{device}' cannot be used for ONNX files: ONNX Runtime {runtime.__version__} "
            f"has {', '.join(available)}; `pip install onnxruntime-gpu` in its place, or choose "
            "device 'cpu'"
        )
    # TF32 would round the numbers of float32 convolutions to 10 bits of mantissa.
    options = {"device_id": device.index or 0, "use_tf32": 0}
    return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]


def _errors_of(runtime: Any) -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: classes without a common base."""
    state = runtime.capi.onnxruntime_pybind11_state
    own = (value for value in vars(state).values() if isinstance(value, type))
    raised = tuple(value for value in own if issubclass(value, Exception))
    return (*raised, RuntimeError, ValueError, TypeError, MemoryError)


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:400]
