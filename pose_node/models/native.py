"""The native model file: safetensors, with the network's description as JSON in its header.

It holds nothing but numbers and that description, so any tool that reads safetensors can read it,
and one file is all there is to copy.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pose_node.errors import CheckpointError
from pose_node.models.archive import MAX_FILE_BYTES
from pose_node.models.network import PoseNetwork
from pose_node.models.nodes import MAX_NODES, NetworkDescription, Node

FORMAT_VERSION = "1"
MAX_HEADER_BYTES = 1 << 20  # the largest published network needs a fifth of it
_DTYPES = ("F64", "F32", "F16", "BF16", "I64")
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
    try:
        if not path.exists():
            raise _Unfit("there is no such file")
        _check_header(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get(_HEADER_KEY) != FORMAT_VERSION or "description" not in metadata:
                raise _Unfit(
                    f"it has no pose_node description of version {FORMAT_VERSION}; write it with "
                    "`pose-node models convert`"
                )
            description = _parse(metadata["description"])
            weights = {name: _read(file, name) for name in file.keys()}  # noqa: SIM118
        return PoseNetwork(description, weights, end_to_end=end_to_end)
    except SafetensorError as error:
        # The library's text may quote the whole header.
        raise CheckpointError(f"cannot read {path}: it is damaged: {str(error)[:200]}") from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except KeyError as error:
        raise CheckpointError(f"cannot read {path}: its description lacks {error}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {path}: {str(error)[:1000]}") from error


class _Unfit(ValueError):
    """The file is not of this format."""


def _check_header(path: Path) -> None:
    """Refuse a header that would fill the memory before anybody could look at it."""
    if not path.is_file():
        raise _Unfit("it is not a file")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
    if size > MAX_FILE_BYTES:
        raise _Unfit(f"it has {size} bytes, expected at most {MAX_FILE_BYTES}")
    if size < 8 or length > size - 8:
        raise _Unfit("it is damaged: it is shorter than its header, or no safetensors file")
    if length > MAX_HEADER_BYTES:
        raise _Unfit(f"its header has {length} bytes, expected at most {MAX_HEADER_BYTES}")


def _parse(text: str) -> NetworkDescription:
    value = json.loads(text, parse_float=_finite, parse_int=_small_integer, parse_constant=_finite)
    description = NetworkDescription.from_json(value)
    if sum(_count(layer.block) for layer in description.layers) > MAX_NODES:
        raise _Unfit(f"its description has more than {MAX_NODES} modules")
    return description


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Unfit(f"its description holds the number {text:.20}")
    return value


def _small_integer(text: str) -> int:
    if len(text) > 18:
        raise _Unfit(f"its description holds the number {text:.20}...")
    return int(text)


def _count(node: Node) -> int:
    return 1 + sum(_count(part) for part in node.parts.values())


def _read(file: Any, name: str) -> Tensor:
    """A tensor of a file, as float32 if it is floating point.

    Always a copy: the file's own tensors are mapped, and change or crash with the file.
    """
    kind = file.get_slice(name).get_dtype()
    if kind not in _DTYPES:
        # Others are never written, and some are so small that they grow many times over.
        raise _Unfit(f"tensor {name!r:.120} is of type {kind}, expected {', '.join(_DTYPES)}")
    tensor: Tensor = file.get_tensor(name)
    return tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)


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
