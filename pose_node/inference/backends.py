"""Which program runs the network: torch, or another for which it is exported on first use.

On the CPU, OpenVINO and ONNX Runtime take less time for the same numbers. Their files lie in the
cache under the digest of the model, and are made again whenever model or package change.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import logging
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from pose_node import __version__
from pose_node.errors import CheckpointError, DeviceError, OutputError, PoseNodeError
from pose_node.inference.devices import resolve_device
from pose_node.inference.networks import (
    Network,
    load_exported,
    prepare_network,
)
from pose_node.models import load_network
from pose_node.models.fetch import (
    cache_directory,
    cache_fault,
    file_digest,
    make_cache_folder,
)

BACKENDS = ("auto", "torch", "openvino", "onnxruntime")
"""What may be asked for."""

PIXEL_TOLERANCE = 1e-2
"""Pixels; a file that differs more from torch is not used. Found are some 1e-4."""

_SUFFIXES = {"openvino": ".xml", "onnxruntime": ".onnx"}
_FORMATS = {"openvino": "openvino", "onnxruntime": "onnx"}
_PACKAGES = {
    "openvino": ("openvino", "onnx", "onnxruntime"),
    "onnxruntime": ("onnx", "onnxruntime"),
}

_logger = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """A network that is ready to run.

    Attributes:
        network: the network.
        backend: what runs it: "torch", "openvino" or "onnxruntime".
    """

    network: Network
    backend: str


def prepare(
    path: Path,
    *,
    backend: str = "torch",
    device: torch.device,
    half: bool = False,
    end_to_end: bool | None = None,
    onnx_layout: str | None = None,
    threads: int | None = None,
) -> Prepared:
    """Load a model to be run by a backend.

    Args:
        path: a checkpoint, a native file, or an exported network, which brings its own backend.
        backend: one of `BACKENDS`. "auto" takes the fastest that is installed and can use the
            device; what fails is logged, and the next is taken.
        device, half, end_to_end, onnx_layout: see `pose_node.inference.networks.prepare_network`.
        threads: on the CPU; None for as many as there are processors.

    Raises:
        CheckpointError: the model cannot be read.
        DeviceError: the backend cannot use the device.
        OutputError: the cache cannot be written.
        PoseNodeError: a package of the backend is missing.
        ValueError: the arguments do not go together.
    """
    own = _own_backend(path)
    if own is not None and backend not in ("auto", "torch", own):
        raise ValueError(
            f"{path.name} is run by {own}, backend {backend!r} cannot read it: leave backend out, "
            "or give the checkpoint that it was exported from"
        )
    if half and own is None:
        backend = _computing_in_16_bits(backend, device)
    if own is not None or backend == "torch":
        network = prepare_network(
            path,
            device=device,
            half=half,
            end_to_end=end_to_end,
            onnx_layout=onnx_layout,
            threads=threads,
        )
        return Prepared(network, own or "torch")
    if onnx_layout is not None:
        raise ValueError(f"onnx_layout is for exported networks, {path.name} is none; leave it out")
    for name in candidates(device) if backend == "auto" else (backend,):
        try:
            return Prepared(_run_by(name, path, device, end_to_end, threads, half), name)
        except PoseNodeError as error:
            if backend != "auto":
                raise
            _logger.warning("backend %s cannot run %s: %s", name, path.name, error)
    return Prepared(
        prepare_network(path, device=device, end_to_end=end_to_end, threads=threads), "torch"
    )


def _computing_in_16_bits(backend: str, device: torch.device) -> str:
    """The only backend that does so on this device; ValueError if another one was asked for."""
    only = "openvino" if device.type == "cpu" else "torch"
    if backend not in ("auto", only):
        kind = "the CPU" if device.type == "cpu" else "a GPU"
        raise ValueError(
            f"half on {kind} goes with backend {only!r} only, got {backend!r}; unset half, or "
            f"choose backend {only!r}"
        )
    return only


def choose_device(name: str, path: Path, backend: str) -> torch.device:
    """The device to compute on.

    Args:
        name: see `resolve_device`; "auto" is the CPU where what runs the network can use no other.
        path: the model's file, or its name.
        backend: one of `BACKENDS`.

    Raises:
        DeviceError: the name is none of these, or the device is not there.
        PoseNodeError: a package of the backend is missing.
    """
    device = resolve_device(name)
    runner = _own_backend(path) or backend
    if name == "auto" and device.type != "cpu" and runner in _SUFFIXES:
        try:
            _check(runner, device)
        except DeviceError:
            return torch.device("cpu")
    return device


def candidates(device: torch.device) -> tuple[str, ...]:
    """Backends beside torch that are installed and faster than it, the fastest first.

    Measured in benchmarks/RESULTS.md on x86-64; OpenVINO is made for such processors. On a GPU,
    torch is the fastest.
    """
    if device.type != "cpu":
        return ()
    intel = platform.machine().lower() in ("x86_64", "amd64")
    names = ("openvino", "onnxruntime") if intel else ("onnxruntime",)
    return tuple(name for name in names if all(map(_is_installed, _PACKAGES[name])))


def exported_path(model: Path, backend: str, *, end_to_end: bool | None = None) -> Path:
    """Where the file of a backend for a model lies, or would.

    Args:
        model: the model's file, which is read.
        backend: "openvino" or "onnxruntime".
        end_to_end: see `pose_node.models.load_network`.

    Raises:
        CheckpointError: the model's file cannot be read.
    """
    try:
        content = file_digest(model)
    except OSError as error:
        raise CheckpointError(f"cannot read {model}: {error.strerror}") from error
    facts = f"{content} {__version__} {_code_digest()} {end_to_end}"
    digest = hashlib.sha256(facts.encode()).hexdigest()[:16]
    return cache_directory() / "exported" / f"{model.stem}-{digest}{_SUFFIXES[backend]}"


@functools.cache
def _code_digest() -> str:
    """Of the modules that decide what is exported: they change more often than the version."""
    package = Path(__file__).resolve().parents[1]
    modules = [package / "export.py", *package.glob("models/*.py"), *package.glob("exporting/*.py")]
    digest = hashlib.sha256()
    for module in sorted(modules):
        digest.update(module.read_bytes())
    return digest.hexdigest()


def _own_backend(path: Path) -> str | None:
    """What runs an exported network; None for other files."""
    return {suffix: name for name, suffix in _SUFFIXES.items()}.get(path.suffix)


def _run_by(
    backend: str,
    model: Path,
    device: torch.device,
    end_to_end: bool | None,
    threads: int | None,
    half: bool,
) -> Network:
    _check(backend, device, half=half)
    path = exported_path(model, backend, end_to_end=end_to_end)
    if (fault := cache_fault(path)) is not None:
        raise CheckpointError(f"no file for {backend} is read from the cache: {fault}")
    if not _is_whole(path):
        with _locked(path):
            if not _is_whole(path):  # or another process has made it meanwhile
                _export(model, backend, path, end_to_end)
    return load_exported(path, device=device, threads=threads, half=half)


def _check(backend: str, device: torch.device, *, half: bool = False) -> None:
    """Raises DeviceError, PoseNodeError or ValueError if a backend cannot run here."""
    if backend == "openvino":
        from pose_node.inference.openvino_network import check_openvino

        check_openvino(device, half=half)
    else:
        from pose_node.inference.onnx_session import check_onnxruntime

        check_onnxruntime(device)


def _is_whole(path: Path) -> bool:
    """Whether a file is there and as it was written: a damaged one may well run, and be wrong."""
    record = _record_of(path)
    try:
        whole = record.read_text() == _digests(path)
    except (OSError, UnicodeDecodeError):
        whole = False
    if os.path.isfile(path) and not whole:  # Path's own may raise
        _logger.warning("%s is made again: it is not as it was written", path)
    return whole


def _record_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _digests(path: Path) -> str:
    """The SHA-256 of a file, and of the weights that OpenVINO has beside it; for sha256sum."""
    files = (path, path.with_suffix(".bin")) if path.suffix == ".xml" else (path,)
    return "".join(f"{file_digest(file)}  {file.name}\n" for file in files)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Make the folder and hold a lock on the file's name; the system frees it if we die."""
    try:
        make_cache_folder(path)
        lock = path.with_name(f".{path.name}.lock").open("wb")
    except OSError as error:
        raise OutputError(f"cannot write {path.parent}: {error.strerror}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _export(model: Path, backend: str, path: Path, end_to_end: bool | None) -> None:
    from pose_node.export import export_network  # needs packages that few callers have

    _logger.info("exporting %s for %s, once: %s", model.name, backend, path)
    for left_over in path.parent.glob(f".{path.name}.*/"):  # of one who was killed meanwhile
        shutil.rmtree(left_over, ignore_errors=True)
    network = load_network(model, end_to_end=end_to_end)
    if exported_path(model, backend, end_to_end=end_to_end) != path:
        raise CheckpointError(f"{model} was changed while it was being read; load it again")
    export_network(
        network,
        path,
        check_image=_picture(),
        format_name=_FORMATS[backend],
        image_size=(384, 640),
        dynamic=True,
        pixel_tolerance=PIXEL_TOLERANCE,
        name=model.stem,
    )
    try:
        _record_of(path).write_text(_digests(path))
    except OSError as error:
        raise OutputError(f"cannot write {_record_of(path)}: {error.strerror}") from error


def _picture() -> np.ndarray:
    """Soft shapes of many sizes: a picture of people is not at hand everywhere."""
    noise = np.random.default_rng(0)
    layers = [
        cv2.resize(noise.uniform(0, 255, (rows, 2 * rows, 3)).astype(np.float32), (640, 384))
        for rows in (3, 12, 48)
    ]
    return np.mean(layers, 0).astype(np.uint8)


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
