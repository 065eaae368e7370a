"""A YOLO-Pose network: layers that read earlier layers' outputs, and a head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pose_node.models.blocks import Convolution
from pose_node.models.description import DescriptionError, Node, build
from pose_node.models.yolov8 import LevelMaps, PoseHead

MAX_LAYERS = 512
MAX_INPUTS = 8  # of one layer; the largest published Concat has 6
MAX_PROBE_NUMBERS = 1 << 22  # of a feature map of 64 x 64 pixels; real ones have a fifth


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    Attributes:
        inputs: which layers it reads: -1 for the one before, else the layer's index.
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


class PoseNetwork(nn.Module):
    """A YOLO-Pose network on the CPU, float32, in eval mode.

    Args:
        description: what it is made of.
        weights: every parameter and buffer by name; others that the description does not know are
            left unread.

    Attributes:
        description: as given.
        family: for example "yolo11".
        strides: input pixels per cell, for each level of the head.
        stride: the largest of them: height and width of an input must be multiples of it.
        num_keypoints: keypoints of each person, K.
        keypoint_dimensions: 3 for x, y and score, 2 for x and y.
        num_classes: classes of objects; 1 where only people were trained.
        fused: whether `fuse` was called.

    Raises:
        DescriptionError: the layers do not fit together, or a weight is missing, has another shape
            or is not finite.
    """

    def __init__(self, description: NetworkDescription, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.description = description
        self.family = description.family
        self.fused = False
        if len(description.layers) > MAX_LAYERS:
            raise DescriptionError(f"it has more than {MAX_LAYERS} layers")
        self._inputs = _resolve_inputs(description.layers)
        self._needed_later = {index for inputs in self._inputs for index in inputs}
        self.model = nn.ModuleList(
            build(layer.block, f"model.{index}") for index, layer in enumerate(description.layers)
        )
        head = self.model[-1] if len(self.model) else None
        if not isinstance(head, PoseHead):
            raise DescriptionError("the last layer is not a pose head: this is no pose network")
        self.num_keypoints = head.num_keypoints
        self.keypoint_dimensions = head.keypoint_dimensions
        self.num_classes = head.num_classes
        self._assign(weights)
        self.eval()
        self.requires_grad_(False)
        self.strides = self._measure_strides(head)
        self.stride = max(self.strides)

    @property
    def head(self) -> PoseHead:
        """The last layer."""
        head = self.model[-1]
        assert isinstance(head, PoseHead)
        return head

    def forward(self, batch: Tensor) -> list[LevelMaps]:
        """Run the network.

        Args:
            batch: (B, 3, H, W) RGB, 0 to 1, H and W multiples of `stride`.

        Returns:
            The head's raw maps, level by level.
        """
        outputs: dict[int, Any] = {-1: batch}
        value: Any = batch
        for index, (layer, inputs) in enumerate(zip(self.model, self._inputs, strict=True)):
            value = layer([outputs[i] for i in inputs] if len(inputs) > 1 else outputs[inputs[0]])
            if index in self._needed_later:
                outputs[index] = value
        return value

    def decode(self, raw: Sequence[LevelMaps]) -> Tensor:
        """Turn raw maps into rows in pixels of the input.

        Returns:
            (B, A, 4 + num_classes + 3K or 2K): x1 y1 x2 y2, class scores (objectness multiplied
            in), keypoints as x, y and, where the model has it, a score in [0, 1].
        """
        return self.head.decode(raw, self.strides)

    def fuse(self) -> PoseNetwork:
        """Fold every batch normalisation into its convolution. Returns itself."""
        for module in self.modules():
            if isinstance(module, Convolution):
                module.fuse()
        self.fused = True
        return self

    def _assign(self, weights: Mapping[str, Tensor]) -> None:
        state: dict[str, Tensor] = {}
        for name, like in self.state_dict().items():
            # A counter of training steps, which nothing reads and some files leave out.
            counter = name.endswith("num_batches_tracked")
            tensor = torch.zeros((), dtype=like.dtype) if counter else weights.get(name)
            if tensor is None:
                raise DescriptionError(f"the weights {name} are missing")
            if tensor.shape != like.shape:
                raise DescriptionError(
                    f"{name} has shape {tuple(tensor.shape)}, its layer needs {tuple(like.shape)}"
                )
            state[name] = tensor.to(like.dtype)
            if not torch.isfinite(state[name]).all():
                raise DescriptionError(f"{name} holds numbers that are not finite")
        self.load_state_dict(state, assign=True)

    @torch.inference_mode()
    def _measure_strides(self, head: PoseHead) -> tuple[int, ...]:
        """Run the network once on a small image: do its layers fit, and what strides result?"""
        side = 64  # the largest stride of any published network
        hooks = [module.register_forward_hook(_check_size) for module in self.modules()]
        try:
            probe = self(torch.zeros(1, 3, side, side))
            head.check(probe)
            cells = [tuple(maps.boxes.shape[-2:]) for maps in probe]
            if not all(height == width and side % width == 0 for height, width in cells):
                raise ValueError(f"its maps have {cells} cells for an image of {side} x {side}")
            return tuple(side // width for _, width in cells)
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise DescriptionError(f"the layers do not fit together: {error}") from error
        finally:
            for hook in hooks:
                hook.remove()


def _check_size(_module: nn.Module, _inputs: Any, output: Any) -> None:
    """Stop a probe whose feature maps grow far beyond those of any real network."""
    if isinstance(output, Tensor) and output.numel() > MAX_PROBE_NUMBERS:
        raise ValueError(f"a feature map of a 64 x 64 image has {output.numel()} numbers")


def _resolve_inputs(layers: Sequence[Layer]) -> list[tuple[int, ...]]:
    """Absolute index of each layer's inputs; -1 is the image."""
    resolved = []
    for index, layer in enumerate(layers):
        inputs = tuple(index - 1 if i == -1 else i for i in layer.inputs)
        if not 0 < len(inputs) <= MAX_INPUTS or not all(
            (type(i) is int and 0 <= i < index) or i == index - 1 for i in inputs
        ):
            raise DescriptionError(
                f"layer {index} reads layers {layer.inputs}, expected -1 or earlier layers"
            )
        resolved.append(inputs)
    return resolved
