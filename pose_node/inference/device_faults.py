"""Tells faults of the device from faults of an image or of the program.

By names and words: torch, OpenCV, ONNX Runtime and OpenVINO have no class in common, those of torch
differ between its versions, and none of them has to be imported to ask.
"""

from __future__ import annotations

import contextlib
import re
import sys
from typing import NamedTuple

from pose_node.errors import CheckpointError, PoseNodeError
from pose_node.process_settings import release_memory

_MEMORY_CLASSES = {"OutOfMemoryError", "MemoryError"}
_DEVICE_CLASSES = {"AcceleratorError"}
_MEMORY = re.compile(
    r"out of memory|OutOfMemory|STATUS_ALLOC_FAILED|insufficient memory|not enough memory"
    r"|bad_alloc|(can't|cannot|could not|failed to) allocate (memory|\d+ bytes)",
    re.IGNORECASE,
)
_DEVICE = re.compile(
    r"\b(CUDA|HIP) (driver )?(error|failure)|CUBLAS_STATUS|CUDNN_(STATUS|FE)|cuDNN error"
    r"|cuBLAS error|device-side assert|CUDA-capable device|device (is|was) lost|GPU is lost",
    re.IGNORECASE,
)
_LONGEST = 200  # characters of a reason: those of CUDA end with pages of advice for programmers


class DeviceFault(NamedTuple):
    """What is wrong with the device.

    Attributes:
        out_of_memory: it has too little memory left; else it failed.
        reason: in words, with what to do.
    """

    out_of_memory: bool
    reason: str


def find_device_fault(error: BaseException) -> DeviceFault | None:
    """The fault of the device that an error tells of; None if it tells of something else."""
    if isinstance(error, CheckpointError) and error.__cause__ is not None:
        return find_device_fault(error.__cause__)  # what an exported network's program said
    if isinstance(error, PoseNodeError):
        return None
    text = str(error).strip()
    first = text.splitlines()[0][:_LONGEST] if text else type(error).__name__
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & _MEMORY_CLASSES or _MEMORY.search(text):
        return DeviceFault(
            True,
            f"the memory for the network is full ({first}): end what else uses it, or choose a "
            "smaller model or image_size",
        )
    if names & _DEVICE_CLASSES or _DEVICE.search(text):
        return DeviceFault(
            False,
            f"the device failed ({first}): see `nvidia-smi` and `dmesg`; if it does not come back, "
            "start the node anew, for some CUDA errors stay as long as the process",
        )
    return None


def free_device_memory() -> None:
    """Give back what nobody holds any more, on the device and in main memory."""
    release_memory()
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    with contextlib.suppress(RuntimeError):  # a lost device has nothing to free
        torch.cuda.empty_cache()
