"""From a model file to a network."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pose_node.errors import CheckpointError
from pose_node.models import native, yolox
from pose_node.models.checkpoint import Checkpoint
from pose_node.models.description import RecordReader
from pose_node.models.network import PoseNetwork
from pose_node.models.nodes import MAX_DEPTH, DescriptionError, Layer, NetworkDescription
from pose_node.models.pickle_machine import Record, TensorReference, brief

_ACTIVATION_KNOWN = "it records its activations, so activation must be None"


def load_network(
    path: str | os.PathLike[str],
    *,
    end_to_end: bool | None = None,
    activation: str | None = None,
) -> PoseNetwork:
    """Load a pose network from a checkpoint (``.pt``, ``.pth``) or native file (``.safetensors``).

    Nothing in the file is run, and no class that it names is imported.

    Args:
        path: the file.
        end_to_end: of heads with two kinds of branches (YOLO26), those that need no suppression of
            duplicates (True) or the others (False); None takes what the authors recommend.
        activation: "SiLU" or "ReLU", of a YOLOX file, which does not record it; None takes that of
            the published configuration with the same layers.

    Returns:
        The network on the CPU, float32, in eval mode, batch normalisation as the file has it.

    Raises:
        CheckpointError: the file is missing, damaged, of a foreign kind or hostile, or does not go
            with the arguments; the text names the file and the reason.
        ValueError: `activation` is neither.
    """
    path = Path(path)
    if activation not in (None, "SiLU", "ReLU"):
        raise ValueError(f"activation must be 'SiLU' or 'ReLU', got {activation!r}")
    if path.suffix == ".safetensors":
        if activation is not None:
            raise CheckpointError(f"cannot read {path}: {_ACTIVATION_KNOWN}")
        return native.load_network(path, end_to_end=end_to_end)
    with Checkpoint(path) as checkpoint:
        model = _find_model(checkpoint)
        try:
            if isinstance(model, Record):
                if activation is not None:
                    raise DescriptionError(_ACTIVATION_KNOWN)
                description = _describe(model)  # also sees to it that the tree is finite
                references = dict(_tensors(model, "", 0))
            else:
                shapes = {name: reference.shape for name, reference in model.items()}
                description, names = yolox.describe_weights(shapes, activation)
                references = {ours: model[theirs] for ours, theirs in names.items()}
            weights = {name: checkpoint.tensor(ref) for name, ref in references.items()}
            return PoseNetwork(description, weights, end_to_end=end_to_end)
        except DescriptionError as error:
            raise CheckpointError(f"cannot read {path}: {error}") from error


def _find_model(checkpoint: Checkpoint) -> Record | dict[str, TensorReference]:
    """The record of the network, the averaged one ("ema") where a trainer kept both, or weights."""
    content = checkpoint.content
    model: Any = content
    if isinstance(content, dict):
        model = content.get("ema") or content.get("model") or content
    if isinstance(model, Record) and model.short_name in ("PoseModel", "Model"):
        return model
    if isinstance(model, Record):
        found = f"a {model.class_name!r:.120}, which is no pose network"
    elif isinstance(model, dict) and model:
        if all(isinstance(value, TensorReference) for value in model.values()):
            return {str(name): value for name, value in model.items()}
        found = "a dictionary without a network"
    else:
        found = "no network"
    raise CheckpointError(
        f"cannot read {checkpoint.path}: it holds {found}; expected a pose checkpoint of YOLOv8, "
        "YOLO11, YOLO26, edgeai-yolov5, yolov7 or edgeai-yolox"
    )


def _describe(model: Record) -> NetworkDescription:
    sequence = model.children.get("model")
    if not isinstance(sequence, Record):
        raise DescriptionError("it has no list of layers")
    reader = RecordReader()
    layers = []
    for name, record in sequence.children.items():
        node = reader.describe(record, f"model.{name}")
        sources = record.attributes.get("f", -1)
        layers.append(Layer(_sources(sources, name), node))
    return NetworkDescription(
        family=_family(layers),
        layers=tuple(layers),
        class_names=_class_names(model.attributes.get("names")),
    )


_FAMILIES = {"Pose26": "yolo26", "Detect": "yolov5", "IKeypoint": "yolov7", "Pose": "yolov8"}
"""Family of a network by the kind of its head."""


def _family(layers: Sequence[Layer]) -> str:
    kinds = [layer.block.kind for layer in layers]
    family = _FAMILIES.get(kinds[-1], "") if kinds else ""
    return "yolo11" if family == "yolov8" and "C3k2" in kinds else family


def _sources(value: object, layer: str) -> tuple[int, ...]:
    sources = value if isinstance(value, (list, tuple)) else [value]
    if all(type(source) is int for source in sources):
        return tuple(sources)
    raise DescriptionError(f"layer {layer!r:.20} reads {brief(value)}, expected layer numbers")


def _class_names(names: object) -> tuple[str, ...]:
    if isinstance(names, dict):
        names = list(names.values())
    return tuple(str(name)[:80] for name in names[:1000]) if isinstance(names, list) else ()


def _tensors(record: Record, prefix: str, depth: int) -> Iterator[tuple[str, TensorReference]]:
    """Name and reference of every parameter and buffer. `describe` has seen that the tree ends."""
    for kind in ("_parameters", "_buffers"):
        values = record.attributes.get(kind)
        for name, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, TensorReference):
                yield f"{prefix}{name}", value
    for name, child in record.children.items():
        if isinstance(child, Record) and depth < MAX_DEPTH:
            yield from _tensors(child, f"{prefix}{name}.", depth + 1)
