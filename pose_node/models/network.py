"""A YOLO-Pose network: layers that read earlier layers' outputs, and a head."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pose_node.models.blocks import Convolution
from pose_node.models.description import build
from pose_node.models.heads import Head
from pose_node.models.nodes import DescriptionError, Layer, NetworkDescription
from pose_node.models.preprocessing import Preprocessing
from pose_node.models.yolo11 import Attention

MAX_LAYERS = 512
MAX_INPUTS = 8  # of one layer; the largest published Concat has 6
MAX_PROBE_NUMBERS = 1 << 25  # in all maps of an image of 64 x 64; published ones have a fifth
MAX_PROBE_PRODUCTS = 1 << 34  # likewise; published ones have a tenth


class PoseNetwork(nn.Module):
    """A YOLO-Pose network on the CPU, float32, in eval mode.

    Args:
        description: what it is made of.
        weights: every parameter and buffer by name; others that the description does not know are
            left unread.
        end_to_end: of heads with two kinds of branches (YOLO26), those that need no suppression of
            duplicates (True) or the others (False); None takes what the authors recommend.

    Attributes:
        description: as given.
        family: for example "yolo11".
        class_names: what the classes are called, as far as the file says.
        preprocessing: how the network wants its images.
        end_to_end: whether the rows need no suppression of duplicates.
        strides: input pixels per cell, for each level of the head.
        stride: the largest of them: height and width of an input must be multiples of it.
        num_keypoints: keypoints of each person, K.
        keypoint_dimensions: 3 for x, y and score, 2 for x and y.
        num_classes: classes of objects; 1 where only people were trained.
        input_size: None: inputs may have any size that is a multiple of `stride`.
        fused: whether `fuse` was called.

    Raises:
        DescriptionError: the layers do not fit together, or a weight is missing, has another shape
            or is not finite, or the head has no such branches.
    """

    input_size: tuple[int, int] | None = None

    def __init__(
        self,
        description: NetworkDescription,
        weights: Mapping[str, Tensor],
        *,
        end_to_end: bool | None = None,
    ) -> None:
        super().__init__()
        self.description = description
        self.family = description.family
        self.class_names = description.class_names
        self.fused = False
        if len(description.layers) > MAX_LAYERS:
            raise DescriptionError(f"it has more than {MAX_LAYERS} layers")
        self._inputs = _resolve_inputs(description.layers)
        self._needed_later = {index for inputs in self._inputs for index in inputs}
        self.model = nn.ModuleList(
            build(layer.block, f"model.{index}") for index, layer in enumerate(description.layers)
        )
        head = self.model[-1] if len(self.model) else None
        if not isinstance(head, Head):
            raise DescriptionError("the last layer is not a pose head: this is no pose network")
        try:
            head.choose(end_to_end)
        except ValueError as error:
            raise DescriptionError(str(error)) from error
        self.num_keypoints = head.num_keypoints
        self.keypoint_dimensions = head.keypoint_dimensions
        self.num_classes = head.num_classes
        self._assign(weights)
        self.eval()
        self.requires_grad_(False)
        self.strides = self._measure_strides(head)
        self.stride = max(self.strides)

    @property
    def head(self) -> Head:
        """The last layer."""
        head = self.model[-1]
        assert isinstance(head, Head)
        return head

    @property
    def preprocessing(self) -> Preprocessing:
        """How the network wants its images."""
        return self.head.PREPROCESSING

    @property
    def end_to_end(self) -> bool:
        """Whether the rows need no suppression of duplicates."""
        return self.head.end_to_end

    def forward(self, batch: Tensor) -> list[Any]:
        """Run the network.

        Args:
            batch: (B, 3, H, W) as `preprocessing` says, H and W multiples of `stride`.

        Returns:
            The head's raw maps: for each level a named tuple of tensors (B, channels, H, W).
        """
        outputs: dict[int, Any] = {-1: batch}
        value: Any = batch
        for index, (layer, inputs) in enumerate(zip(self.model, self._inputs, strict=True)):
            several = len(inputs) > 1 or isinstance(layer, Head)
            value = layer([outputs[i] for i in inputs] if several else outputs[inputs[0]])
            if index in self._needed_later:
                outputs[index] = value
        return value

    def decode(self, raw: Sequence[Any]) -> Tensor:
        """Turn raw maps into rows in pixels of the input.

        Returns:
            (B, A, 4 + num_classes + 3K or 2K): x1 y1 x2 y2, class scores (objectness multiplied
            in), keypoints as x, y and, where the model has it, a score in [0, 1].
        """
        return self.head.decode(raw, self.strides)

    def fuse(self) -> PoseNetwork:
        """Fold batch normalisation into the convolutions, drop what is unused. Returns itself."""
        for module in list(self.modules()):
            if isinstance(module, (Convolution, Head)):
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
            # By numpy: torch would share so little work among threads, and wait for each of them.
            numbers = state[name].numpy()
            if not (np.isfinite(numbers.min()) and np.isfinite(numbers.max())):
                raise DescriptionError(f"{name} holds numbers that are not finite")
        self.load_state_dict(state, assign=True)

    @torch.inference_mode()
    def _measure_strides(self, head: Head) -> tuple[int, ...]:
        """What a small image would become: do the layers fit together, and what strides result?

        Of a batch without images: it has the shapes of any other, but takes no time and no memory,
        however absurd the description is.
        """
        side = 64  # the largest stride of any published network
        effort = _Effort()
        hooks = [module.register_forward_hook(effort.add) for module in self.modules()]
        try:
            probe = self(torch.zeros(0, 3, side, side))
            head.check(probe)
            cells = [tuple(maps[0].shape[-2:]) for maps in probe]
            if not all(height == width and side % width == 0 for height, width in cells):
                raise ValueError(f"its maps have {cells} cells for an image of {side} x {side}")
            return tuple(side // width for _, width in cells)
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise DescriptionError(f"the layers do not fit together: {error}") from error
        finally:
            for hook in hooks:
                hook.remove()


class _Effort:
    """Adds up what one image takes; stops where it grows far beyond that of any real network."""

    def __init__(self) -> None:
        self.numbers = 0
        self.products = 0
        self._widths: dict[nn.Module, int] = {}

    def add(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Called after every module."""
        if not isinstance(output, Tensor):
            return
        self._widths[module] = output.shape[1]
        size = math.prod(output.shape[1:])
        self.numbers += size
        if isinstance(module, nn.Conv2d):
            self.products += size * module.weight[0].numel()
        elif isinstance(module, Attention):
            self._check_attention(module, inputs[0])
            self.numbers += module.num_heads * math.prod(output.shape[2:]) ** 2
        if self.numbers > MAX_PROBE_NUMBERS or self.products > MAX_PROBE_PRODUCTS:
            raise ValueError(
                f"an image of 64 x 64 would take more than {MAX_PROBE_NUMBERS} numbers or "
                f"{MAX_PROBE_PRODUCTS} products"
            )

    def _check_attention(self, module: Attention, x: Tensor) -> None:
        """It cuts its maps by these numbers, and nothing can be cut in any way."""
        heads, wide = module.num_heads, module.head_dim
        expected = (heads * (2 * module.key_dim + wide), heads * wide)
        found = (self._widths.get(module.qkv), x.shape[1])
        if heads < 1 or found != expected:
            raise ValueError(f"attention with {heads} heads needs {expected} channels, got {found}")


def _resolve_inputs(layers: Sequence[Layer]) -> list[tuple[int, ...]]:
    """Absolute index of each layer's inputs; -1 is the image."""
    resolved = []
    for index, layer in enumerate(layers):
        given = layer.inputs
        inputs = tuple(index + i if type(i) is int and i < 0 else i for i in given)
        if not 0 < len(inputs) <= MAX_INPUTS or not all(
            type(i) is int and (0 <= i < index or (i == -1 and j == -1))
            for i, j in zip(inputs, given, strict=True)
        ):
            raise DescriptionError(
                f"layer {index} reads layers {given!r:.200}, expected the numbers of earlier "
                "layers, or -1, -2, ... for the last ones"
            )
        resolved.append(inputs)
    return resolved
