"""Which device to compute on, and why not on the one that was hoped for."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from pose_node.errors import DeviceError


def why_no_cuda() -> str | None:
    """Why no NVIDIA GPU can be used, with what to do; None if one can."""
    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None:
        return (
            f"torch {torch.__version__} was built without CUDA; install a CUDA build of torch "
            "that fits the driver"
        )
    return (
        f"torch {torch.__version__} was built for CUDA {torch.version.cuda} and finds no usable "
        "NVIDIA GPU; check `nvidia-smi`, the driver's version and, in a container, that the GPU is "
        "passed in"
    )


def is_cuda_expected() -> bool:
    """Whether there is any sign that a GPU should be used: torch's build, or a driver."""
    drivers = ("/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/dxg", "/proc/driver/nvidia")
    return torch.version.cuda is not None or any(Path(path).exists() for path in drivers)


def resolve_device(name: str) -> torch.device:
    """The device to compute on.

    Args:
        name: "auto" (the first NVIDIA GPU if one can be used, else the CPU), "cpu", "cuda" or
            "cuda:N".

    Raises:
        DeviceError: the name is none of these, or the device is not there.
    """
    if name == "cpu":
        return torch.device("cpu")
    if name == "auto":
        return torch.device("cpu" if why_no_cuda() else "cuda:0")
    match = re.fullmatch(r"cuda(?::(\d{1,3}))?", name)
    if not match:
        raise DeviceError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N', got {name!r}")
    reason = why_no_cuda()
    if reason:
        raise DeviceError(f"device {name!r} cannot be used: {reason}, or choose device 'cpu'")
    index, count = int(match[1] or 0), torch.cuda.device_count()
    if index >= count:
        raise DeviceError(f"device {name!r} is not there: this machine has {count} NVIDIA GPUs")
    return torch.device("cuda", index)


def describe_device(device: torch.device, threads: int | None = None) -> str:
    """The device in words, for people: the GPU's name, or the CPU with its threads.

    Args:
        device: the device.
        threads: of the program that runs the network on a CPU; None for those of torch.
    """
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    threads = threads or torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"
