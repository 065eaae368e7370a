"""What the engine needs of a network, and how a file becomes one on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from pose_node.models import load_network
from pose_node.models.preprocessing import Preprocessing


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

    stride: int
    input_size: tuple[int, int] | None
    num_keypoints: int
    keypoint_dimensions: int
    num_classes: int
    class_names: tuple[str, ...]

    @property
    def preprocessing(self) -> Preprocessing: ...

    @property
    def end_to_end(self) -> bool: ...

    def __call__(self, batch: Tensor) -> Any:
        """(B, 3, H, W), prepared as `preprocessing` says, to raw maps."""

    def decode(self, raw: Any) -> Tensor:
        """Raw maps to (B, A, 4 + classes + K * dimensions) in input pixels."""


def prepare_network(
    path: Path, *, device: torch.device, half: bool = False, end_to_end: bool | None = None
) -> Network:
    """Load a network and make it fast on a device.

    Args:
        path: the file.
        device: where it is to run.
        half: compute in float16; on NVIDIA GPUs only.
        end_to_end: see `pose_node.models.load_network`.

    Raises:
        CheckpointError: the file cannot be read, or does not go with `end_to_end`.
    """
    network = load_network(path, end_to_end=end_to_end).fuse()
    network.to(device, torch.float16 if half else torch.float32)
    # Convolutions run fastest with the channels of a pixel side by side, on CPU and GPU alike.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
