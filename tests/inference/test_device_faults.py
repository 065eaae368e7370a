"""Faults of the device, of an image and of the program are told apart by their errors."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from pose_node.errors import CheckpointError, DeviceError, ImageError
from pose_node.inference import device_faults
from pose_node.inference.device_faults import find_device_fault, free_device_memory
from pose_node.inference.onnx_session import OnnxSession


class AcceleratorError(RuntimeError):
    """As torch has it since 2.8."""


def real_torch_error() -> Exception:
    torch = pytest.importorskip("torch", reason="torch missing")
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    return caught.value


def real_numpy_error() -> Exception:
    with pytest.raises(MemoryError) as caught:
        np.empty(1 << 60, np.uint8)
    return caught.value


@pytest.mark.parametrize("make", [real_torch_error, real_numpy_error])
def test_real_errors_of_memory(make: object) -> None:
    fault = find_device_fault(make())  # type: ignore[operator]
    assert fault is not None
    assert fault.out_of_memory


def test_the_class_of_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch missing")
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nmore advice")
    fault = find_device_fault(error)
    assert fault is not None
    assert fault.out_of_memory
    assert fault.reason.startswith(
        "the memory for the network is full (CUDA out of memory. Tried to allocate 20 GiB.): end "
    )


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported late"),
        Exception("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer"),
        cv2.error("(-4:Insufficient memory) Failed to allocate 9 bytes in function 'OutOfMemory'"),
    ],
)
def test_errors_of_memory(error: Exception) -> None:
    fault = find_device_fault(error)
    assert fault is not None
    assert fault.out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        AcceleratorError("whatever it says"),
        RuntimeError("CUDA error: device-side assert triggered\nCompile with ..."),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA driver error: unknown error"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("no CUDA-capable device is detected"),
        Exception("[ONNXRuntimeError] : 1 : FAIL : CUDA failure 999: unknown error"),
        RuntimeError("Unable to determine the device handle for GPU 0: GPU is lost."),
    ],
)
def test_errors_of_the_device(error: Exception) -> None:
    fault = find_device_fault(error)
    assert fault is not None
    assert not fault.out_of_memory
    assert "start the node anew" in fault.reason
    assert "\n" not in fault.reason


@pytest.mark.parametrize(
    "error",
    [
        ValueError("expected 3 channels"),
        RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
        ImageError("out of memory, says the file", kind="odd"),
        DeviceError("device 'cuda' cannot be used: CUDA error"),
        ZeroDivisionError(),
    ],
)
def test_other_errors(error: Exception) -> None:
    assert find_device_fault(error) is None


def test_long_reasons_are_cut() -> None:
    fault = find_device_fault(RuntimeError("CUDA error: " + "x" * 10_000))
    assert fault is not None
    assert len(fault.reason) < 500


@pytest.mark.parametrize(("initialized", "calls"), [(True, 1), (False, 0)])
def test_memory_is_freed_where_a_gpu_is_used(
    monkeypatch: pytest.MonkeyPatch, initialized: bool, calls: int
) -> None:
    called = []

    def empty_cache() -> None:
        called.append(1)
        raise RuntimeError("CUDA error: the device is gone")

    cuda = SimpleNamespace(is_initialized=lambda: initialized, empty_cache=empty_cache)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    released = []
    monkeypatch.setattr(device_faults, "release_memory", lambda: released.append(1))
    free_device_memory()
    assert (len(called), len(released)) == (calls, 1)


def test_what_the_program_of_an_exported_network_said() -> None:
    cause = RuntimeError("[ONNXRuntimeError] : 1 : FAIL : CUDA failure 719: launch failure")
    try:
        raise CheckpointError("cannot run model.onnx on an input of (1, 3, 64, 64)") from cause
    except CheckpointError as error:
        fault = find_device_fault(error)
    assert fault is not None
    assert not fault.out_of_memory
    assert find_device_fault(CheckpointError("cannot read model.onnx: Protobuf parsing")) is None


def test_through_a_session(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime missing: pip install onnxruntime")
    session = OnnxSession(shared / "fixtures/ul_yolo11_tiny_pose.onnx")

    def fail(*_: object) -> None:
        raise RuntimeError("Failed to allocate memory for requested buffer of size 9")

    names = [output.name for output in session._session.get_outputs()]
    monkeypatch.setattr(
        session, "_session", SimpleNamespace(run=fail, get_outputs=lambda: []), raising=True
    )
    with pytest.raises(CheckpointError) as caught:
        session.run(np.zeros((1, 3, 64, 64), np.float32), names)
    fault = find_device_fault(caught.value)
    assert fault is not None
    assert fault.out_of_memory
