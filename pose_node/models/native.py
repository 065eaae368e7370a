"""The native model file: safetensors, with the network's description as JSON in its header.

It holds nothing but numbers and that description, so any tool that reads safetensors can read it,
and one file is all there is to copy.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pose_node.errors import CheckpointError
from pose_node.models.network import PoseNetwork
from pose_node.models.nodes import NetworkDescription

FORMAT_VERSION = "1"
_HEADER_KEY = "pose_node"


def save_network(network: PoseNetwork, path: str | os.PathLike[str]) -> None:
    """Write a network in the native format, complete or not at all.

    Weights that float16 holds exactly (published checkpoints store it) are written so; others as
    float32. Reading the file back gives identical outputs.

    Args:
        network: as `pose_node.models.load_network` gives it, before ``fuse()``.
        path: the file to write, ending in ``.safetensors``.

    Raises:
        CheckpointError: the path has another ending, or the file cannot be written.
        ValueError: the network was fused since it was built.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"cannot write {path}: expected a name that ends in .safetensors")
    if network.fused:
        raise ValueError("the network was fused after it was loaded; save it before fuse()")
    stored = {name: _smallest(tensor.cpu()) for name, tensor in network.state_dict().items()}
    metadata = {
        _HEADER_KEY: FORMAT_VERSION,
        "description": json.dumps(network.description.to_json(), separators=(",", ":")),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        save_file(stored, temporary, metadata)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def load_network(path: Path, *, end_to_end: bool | None = None) -> PoseNetwork:
    """Load a native file. See `pose_node.models.load_network`."""
    if not path.is_file():
        raise CheckpointError(f"cannot read {path}: there is no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get(_HEADER_KEY) != FORMAT_VERSION:
                raise CheckpointError(
                    f"cannot read {path}: it has no pose_node description of version "
                    f"{FORMAT_VERSION}; write it with `pose-node models convert`"
                )
            description = NetworkDescription.from_json(json.loads(metadata["description"]))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return PoseNetwork(description, weights, end_to_end=end_to_end)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"cannot read {path}: it is damaged: {error}") from error
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error


@torch.inference_mode()
def assert_same_outputs(network: PoseNetwork, other: PoseNetwork) -> None:
    """Compare two networks on an input of noise.

    Raises:
        CheckpointError: they differ.
    """
    side = 2 * network.stride
    noise = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    noise *= 255 * network.preprocessing.scale
    rows, others = (n.decode(n(noise)) for n in (network, other))
    if not torch.allclose(rows, others, rtol=0, atol=0, equal_nan=True):
        largest = (rows - others).abs().max().item()
        raise CheckpointError(f"the written network differs from what was read, by {largest:g}")


def _smallest(tensor: Tensor) -> Tensor:
    half = tensor.half() if tensor.is_floating_point() else tensor
    return (half if torch.equal(half.to(tensor.dtype), tensor) else tensor).contiguous()
