"""What the engine needs of a network, and how a file becomes one on a device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from pose_node.errors import CheckpointError
from pose_node.inference.exported_network import ExportedNetwork
from pose_node.models import PoseNetwork, load_network
from pose_node.models.preprocessing import Preprocessing
from pose_node.process_settings import available_processors


class Network(Protocol):
    """What the engine needs of a network; `pose_node.models.PoseNetwork` is one.

    Attributes:
        stride: what height and width of an input must be multiples of.
        input_size: height and width that every input must have; None if any will do.
        num_keypoints: keypoints of each person, K.
        keypoint_dimensions: 3 for x, y and score, 2 for x and y.
        num_classes: classes of objects.
        class_names: what they are called, as far as the file says.
        preprocessing: how the network wants its images.
        end_to_end: whether the rows need no suppression of duplicates.
    """

    @property
    def stride(self) -> int: ...

    @property
    def input_size(self) -> tuple[int, int] | None: ...

    @property
    def num_keypoints(self) -> int: ...

    @property
    def keypoint_dimensions(self) -> int: ...

    @property
    def num_classes(self) -> int: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def preprocessing(self) -> Preprocessing: ...

    @property
    def end_to_end(self) -> bool: ...

    def __call__(self, batch: Tensor) -> Any:
        """(B, 3, H, W), prepared as `preprocessing` says, to raw maps."""

    def decode(self, raw: Any) -> Tensor:
        """Raw maps to (B, A, 4 + classes + K * dimensions) in input pixels."""


EXPORTED_SUFFIXES = (".onnx", ".xml")
"""Files that another program runs: ONNX, by ONNX Runtime, and OpenVINO's own format."""


def prepare_network(
    path: Path,
    *,
    device: torch.device,
    half: bool = False,
    end_to_end: bool | None = None,
    onnx_layout: str | None = None,
    threads: int | None = None,
) -> Network:
    """Load a network and make it fast on a device.

    Args:
        path: a checkpoint, a native file, or an exported network (``.onnx``, ``.xml``).
        device: where it is to run.
        half: compute in 16 bits: networks of torch in float16, on NVIDIA GPUs only, OpenVINO's
            files in bfloat16.
        end_to_end: see `pose_node.models.load_network`.
        onnx_layout: how the outputs of an exported network are laid out, where it does not say so;
            a name of `pose_node.inference.onnx_layouts.LAYOUT_NAMES`.
        threads: on the CPU; None for as many as there are processors. torch has one number of
            threads for the whole process, which is set only where it must change.

    Raises:
        CheckpointError: the file cannot be read, or does not go with `end_to_end`.
        PoseNodeError: the package that runs it is missing.
        ValueError: `half` or `onnx_layout` does not go with the file.
    """
    if path.suffix in EXPORTED_SUFFIXES:
        network = load_exported(path, device=device, layout=onnx_layout, threads=threads, half=half)
        if end_to_end not in (None, network.end_to_end):
            raise CheckpointError(
                f"cannot read {path}: how its people come out was fixed when it was exported, so "
                f"end_to_end must be {network.end_to_end} or left out"
            )
        return network
    if onnx_layout is not None:
        raise ValueError(f"onnx_layout is for exported networks, {path.name} is none; leave it out")
    if device.type == "cpu":
        _limit_threads(threads)
    return _load_torch(path, device, half, end_to_end)


def load_exported(
    path: Path,
    *,
    device: torch.device | str = "cpu",
    layout: str | None = None,
    threads: int | None = None,
    half: bool = False,
) -> ExportedNetwork:
    """Load an exported network by the package that runs it, which is optional.

    Args:
        path: the file, ``.onnx`` or ``.xml``.
        device: where it is to run.
        layout, threads, half: see `prepare_network`.

    Raises:
        CheckpointError: the file cannot be read, or its layout is not known.
        PoseNodeError: the package is missing.
        ValueError: `half` does not go with the file or the processor.
    """
    if half and path.suffix != ".xml":
        raise ValueError(
            f"half does not go with {path.name}, whose numbers are as the file has them; unset half"
        )
    if torch.device(device).type == "cpu":
        _limit_threads(threads)  # what surrounds the network runs by torch
    if path.suffix == ".xml":
        from pose_node.inference.openvino_network import load_openvino

        return load_openvino(path, device=device, layout=layout, threads=threads, half=half)
    from pose_node.inference.onnx_network import load_onnx

    return load_onnx(path, device=device, layout=layout, threads=threads)


def _limit_threads(threads: int | None) -> None:
    """Set torch's threads; with None, take back what was set here, not what others set."""
    now = torch.get_num_threads()
    if _threads.ours != now:
        _threads.before = now
    wanted = threads or min(_threads.before, available_processors())
    if wanted != now:
        torch.set_num_threads(wanted)
        _threads.ours = wanted


@dataclass
class _Threads:
    """Of torch, for the whole process: set here last, and what there was before."""

    ours: int | None = None
    before: int = 0


_threads = _Threads()


def _load_torch(
    path: Path, device: torch.device, half: bool, end_to_end: bool | None
) -> PoseNetwork:
    network = load_network(path, end_to_end=end_to_end).fuse()
    network.to(device, torch.float16 if half else torch.float32)
    # Convolutions run fastest with the channels of a pixel side by side, on CPU and GPU alike.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
