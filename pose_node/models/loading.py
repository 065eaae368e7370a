"""From a model file to a network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pose_node.errors import CheckpointError
from pose_node.models import native
from pose_node.models.checkpoint import Checkpoint
from pose_node.models.description import MAX_DEPTH, DescriptionError, RecordReader
from pose_node.models.network import Layer, NetworkDescription, PoseNetwork
from pose_node.models.pickle_machine import Record, TensorReference, brief


def load_network(path: str | os.PathLike[str]) -> PoseNetwork:
    """Load a pose network from a checkpoint (``.pt``) or a native file (``.safetensors``).

    Nothing in the file is run, and no class that it names is imported.

    Args:
        path: the file.

    Returns:
        The network on the CPU, float32, in eval mode, batch normalisation as the file has it.

    Raises:
        CheckpointError: the file is missing, damaged, of a foreign kind or hostile; the text names
            the file and the reason.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return native.load_network(path)
    with Checkpoint(path) as checkpoint:
        model = _find_model(checkpoint)
        try:
            description = _describe(model)  # also sees to it that the tree is finite
            weights = {
                name: checkpoint.tensor(reference) for name, reference in _tensors(model, "", 0)
            }
            return PoseNetwork(description, weights)
        except DescriptionError as error:
            raise CheckpointError(f"cannot read {path}: {error}") from error


def _find_model(checkpoint: Checkpoint) -> Record:
    """The record of the network; the averaged one ("ema") where a trainer kept both."""
    content = checkpoint.content
    model: Any = content
    if isinstance(content, dict):
        model = content.get("ema") or content.get("model")
    if isinstance(model, Record) and model.short_name == "PoseModel":
        return model
    if isinstance(model, Record):
        found = f"a {model.class_name!r:.120}, which is no pose network"
    elif isinstance(model, dict):
        found = "a bare state dictionary, which does not say what network it belongs to"
    else:
        found = "no network"
    raise CheckpointError(
        f"cannot read {checkpoint.path}: it holds {found}; expected a YOLOv8-pose or YOLO11-pose "
        "checkpoint"
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
    kinds = {layer.block.kind for layer in layers}
    return NetworkDescription(
        family="yolo11" if "C3k2" in kinds else "yolov8",
        layers=tuple(layers),
        class_names=_class_names(model.attributes.get("names")),
    )


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
