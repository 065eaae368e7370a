"""What a network is made of, as plain data: read from a checkpoint, kept as JSON, built.

A `Node` is one module: its kind, its plain settings and its parts. The native file format stores
this tree as JSON beside the weights; building from it is the same whether it comes from there, from
a checkpoint's records or from a published architecture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pose_node.models.pickle_machine import brief

MAX_DEPTH = 24
MAX_NODES = 20_000
MAX_PARTS = 32  # of one module; the longest chain of a published network has 12
MAX_CHANNELS = 16_384


class DescriptionError(ValueError):
    """The description names something unknown or does not fit together."""


@dataclass(frozen=True)
class Node:
    """One module.

    Attributes:
        kind: name of the module's class.
        settings: its plain values: numbers, strings, booleans and lists of them.
        parts: its submodules by name.
    """

    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Node] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """This node as what ``json.dumps`` takes."""
        result: dict[str, Any] = {"kind": self.kind}
        if self.settings:
            result["settings"] = self.settings
        if self.parts:
            result["parts"] = {name: part.to_json() for name, part in self.parts.items()}
        return result

    @classmethod
    def from_json(cls, value: object, depth: int = 0) -> Node:
        """The inverse of `to_json`.

        Raises:
            DescriptionError: `value` is not of that form.
        """
        if depth > MAX_DEPTH:
            raise DescriptionError(f"its modules are nested more than {MAX_DEPTH} deep")
        match value:
            case {"kind": str(kind), **rest}:
                settings, parts = rest.get("settings", {}), rest.get("parts", {})
                if isinstance(settings, dict) and isinstance(parts, dict):
                    nodes = {str(k): cls.from_json(part, depth + 1) for k, part in parts.items()}
                    return cls(kind, settings, nodes)
        raise DescriptionError(
            f"expected a module with kind, settings and parts, got {brief(value)}"
        )


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    Attributes:
        inputs: which layers it reads: -1 for the one before, -2 for the one before that, ..., else
            the layer's index.
        block: what it is.
    """

    inputs: tuple[int, ...]
    block: Node


@dataclass(frozen=True)
class NetworkDescription:
    """Everything that is needed to build a network, short of its weights.

    Attributes:
        family: for example "yolo11".
        layers: in the order in which they run; the last one is the head.
        class_names: what the classes are called, as far as the checkpoint says.
    """

    family: str
    layers: tuple[Layer, ...]
    class_names: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """This description as what ``json.dumps`` takes."""
        return {
            "family": self.family,
            "class_names": list(self.class_names),
            "layers": [
                {"inputs": list(layer.inputs), "block": layer.block.to_json()}
                for layer in self.layers
            ],
        }

    @classmethod
    def from_json(cls, value: object) -> NetworkDescription:
        """The inverse of `to_json`.

        Raises:
            DescriptionError: `value` is not of that form.
        """
        match value:
            case {"family": str(family), "class_names": list(names), "layers": list(layers)}:
                return cls(family, tuple(_layer(layer) for layer in layers), tuple(map(str, names)))
        raise DescriptionError("expected a description with family, class_names and layers")


def _layer(value: object) -> Layer:
    match value:
        case {"inputs": list(inputs), "block": block}:
            return Layer(tuple(inputs), Node.from_json(block))
    raise DescriptionError(f"expected a layer with inputs and block, got {value!r:.80}")
