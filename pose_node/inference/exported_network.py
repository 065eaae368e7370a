"""A network that another program runs from a file: what all such programs have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pose_node.errors import CheckpointError
from pose_node.inference.onnx_decoding import Anchors, make_format
from pose_node.inference.onnx_layouts import check_layout_name, detect_layout
from pose_node.inference.onnx_metadata import FileFacts, read_metadata
from pose_node.models.preprocessing import Preprocessing
from pose_node.process_settings import available_processors

MAX_SIDE = 8192
"""Pixels; a file that wants more is damaged, or means to exhaust the memory."""

MAX_BATCH = 256

_TRIAL_SIZES = ((128, 192), (640, 640))
"""Height and width of what files that take any size are tried on; one is not square, on purpose."""

_TRIAL_GREYS = (84, 144)
"""On stronger noise than any picture has, exponentials of good networks may overflow."""

_Run = Callable[[np.ndarray, Sequence[str] | None], dict[str, np.ndarray]]


@dataclass(frozen=True)
class InputFacts:
    """The one input of a file.

    Attributes:
        batch: images that it takes at once, None for any number.
        size: height and width, None for any.
        dtype: of its numbers.
    """

    batch: int | None
    size: tuple[int, int] | None
    dtype: np.dtype


class RawOutput(NamedTuple):
    """The outputs of one run.

    Attributes:
        tensors: those that are needed, float32, in the order in which they are read.
        num_images: images that they stand for; any more are padding.
        image_size: height and width of the input.
    """

    tensors: tuple[Tensor, ...]
    num_images: int
    image_size: tuple[int, int]


class ExportedNetwork(ABC):
    """Runs an exported model like a network of our own (`pose_node.models.PoseNetwork`).

    It is not to be recorded or traced by torch: what runs it is no torch.

    Args:
        path: the file, for errors.
        input_facts: its input.
        properties: its metadata.
        layout: of its outputs, see `pose_node.inference.onnx_layouts`; None finds out.
        num_keypoints: where neither metadata nor shapes tell.
        anchors: of raw anchor maps, (levels, anchors, 2) in pixels; None takes the published ones.
        threads: that run it on a CPU; None for as many as there are processors.

    Attributes:
        layout: name of the layout of its outputs.
        family: "yolov8", "yolov5", ...; "" where nothing tells.
        strides, stride: input pixels per cell of each level as far as known, and the largest.
        num_keypoints, keypoint_dimensions, num_classes, class_names: as for any network.
        preprocessing: how it wants its images.
        end_to_end: whether its rows need no suppression of duplicates.
        input_size: height and width that every input must have; None for any.
        threads: that run it on a CPU.

    Raises:
        CheckpointError: it cannot run, gives numbers that are not finite, or its layout is unknown,
            ambiguous or not the one that was given.
    """

    def __init__(
        self,
        path: Path,
        input_facts: InputFacts,
        properties: Mapping[str, str],
        *,
        layout: str | None = None,
        num_keypoints: int | None = None,
        anchors: Anchors | None = None,
        threads: int | None = None,
    ) -> None:
        self.path = path
        self.threads = threads or available_processors()
        self.input_size = input_facts.size
        self._input = input_facts
        try:
            facts = read_metadata(properties)
            self._scale = facts.preprocessing.scale if facts.preprocessing else 1 / 255
            if layout is not None:
                check_layout_name(layout)
            tried = self._try_out(facts)
            height, width = tried.image_size
            shapes = {name: tuple(tensor.shape) for name, tensor in tried.outputs.items()}
            self._format = make_format(
                layout or detect_layout(shapes, (height, width), facts),
                shapes,
                (height, width),
                facts,
                num_keypoints=num_keypoints,
                anchors=anchors,
            )
            self._scale = self._format.preprocessing.scale
            self._check_rows(tried)
        except ValueError as error:
            raise CheckpointError(f"cannot use {path}: {error}") from error
        names = facts.class_names
        self.class_names = names if len(names) == self.num_classes else ()

    @property
    def batch(self) -> int | None:
        """Images that the file takes at once; None for any number."""
        return self._input.batch

    @property
    def layout(self) -> str:
        """Name of the layout of its outputs."""
        return self._format.layout

    @property
    def family(self) -> str:
        """Family of the network, "" where nothing tells."""
        return self._format.family

    @property
    def strides(self) -> tuple[int, ...]:
        """Input pixels per cell, for each level; or the largest alone."""
        return self._format.strides

    @property
    def stride(self) -> int:
        """The largest stride."""
        return max(self._format.strides)

    @property
    def num_classes(self) -> int:
        """Classes of objects."""
        return self._format.counts.num_classes

    @property
    def num_keypoints(self) -> int:
        """Keypoints of each person, K."""
        return self._format.counts.num_keypoints

    @property
    def keypoint_dimensions(self) -> int:
        """3 for x, y and score, 2 for x and y."""
        return self._format.counts.keypoint_dimensions

    @property
    def preprocessing(self) -> Preprocessing:
        """How it wants its images."""
        return self._format.preprocessing

    @property
    def end_to_end(self) -> bool:
        """Whether the rows need no suppression of duplicates."""
        return self._format.final

    @abstractmethod
    def _run(self, images: np.ndarray, outputs: Sequence[str] | None) -> dict[str, np.ndarray]:
        """Run on one array (B, 3, H, W) of the input's type.

        Args:
            images: the array, contiguous.
            outputs: the outputs that are needed; None for all.

        Returns:
            The outputs by name, in the file's order; the next run must not change them.

        Raises:
            CheckpointError: it failed.
        """

    def _run_pixels(
        self, pixels: np.ndarray, outputs: Sequence[str] | None
    ) -> dict[str, np.ndarray]:
        """Run on one array (B, H, W, 3) uint8, contiguous, in the network's channel order.

        See `_run`. What can take the pixels as they are overrides this.
        """
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float32)
        images = images.mul_(self._scale).contiguous()
        return self._run(images.numpy().astype(self._input.dtype, copy=False), outputs)

    def __call__(self, batch: Tensor) -> list[RawOutput]:
        """Run the network.

        Args:
            batch: (B, 3, H, W) as `preprocessing` says, of the input's size.

        Returns:
            The outputs of each run, on the batch's device. A file for one image runs once for each.
        """
        height, width = batch.shape[2:]
        images = batch.detach().cpu().numpy().astype(self._input.dtype, copy=False)
        return [
            RawOutput(tuple(t.to(batch.device) for t in tensors), count, (height, width))
            for tensors, count in self._run_in_parts(images, self._run)
        ]

    def detect(self, pixels: np.ndarray, score_threshold: float) -> tuple[Tensor, Tensor]:
        """Run the network on pixels, and decode what scores above a threshold.

        Args:
            pixels: (B, H, W, 3) uint8, contiguous, of the input's size, in the channel order that
                `preprocessing` says.
            score_threshold: of the best class of a row.

        Returns:
            (N,) image of each row, and (N, ...) rows as `decode` has them, both on the CPU.
        """
        size = (pixels.shape[1], pixels.shape[2])
        images, rows, first = [], [], 0
        for tensors, count in self._run_in_parts(pixels, self._run_pixels):
            image, found = self._format.decode_above(score_threshold, tensors, size)
            wanted = image < count
            images.append(image[wanted] + first)
            rows.append(found[wanted])
            first += count
        return torch.cat(images), torch.cat(rows)

    def _run_in_parts(
        self, images: np.ndarray, run: _Run
    ) -> Iterator[tuple[tuple[Tensor, ...], int]]:
        """The outputs of as many images at a time as the file takes, and how many those are."""
        size = 1 if self._format.without_batch else self._input.batch or len(images)
        for start in range(0, len(images), max(size, 1)):
            part = images[start : start + size]
            filled = part
            if self._input.batch is not None and len(part) < self._input.batch:
                empty = self._input.batch - len(part)
                filled = np.concatenate((part, np.repeat(part[-1:], empty, 0)))
            outputs = run(np.ascontiguousarray(filled), self._format.outputs)
            yield tuple(_to_tensor(outputs[name]) for name in self._format.outputs), len(part)

    def decode(self, raw: Sequence[RawOutput]) -> Tensor:
        """Turn outputs into rows.

        Returns:
            (B, A, 4 + num_classes + K * keypoint_dimensions), see
            `pose_node.models.PoseNetwork.decode`; rows of zeros mean nothing.
        """
        rows = [self._format.decode(r.tensors, r.image_size)[: r.num_images] for r in raw]
        longest = max((part.shape[1] for part in rows), default=0)
        return torch.cat(
            [torch.nn.functional.pad(part, (0, 0, 0, longest - part.shape[1])) for part in rows]
        )

    def _try_out(self, facts: FileFacts) -> _Trial:
        """Run once on faint noise, to see the shapes of the outputs."""
        sizes = [self.input_size or _TRIAL_SIZES[0]]
        if not self.input_size:
            said = facts.image_size
            sizes += [said] if said and max(said) <= MAX_SIDE else []
            sizes.append(_TRIAL_SIZES[1])
        while True:
            height, width = sizes.pop(0)
            shape = (self._input.batch or 1, height, width, 3)
            noise = np.random.default_rng(0).integers(*_TRIAL_GREYS, shape, np.uint8)
            try:
                outputs = self._run_pixels(noise, None)
            except CheckpointError:
                if sizes:
                    continue  # a file may claim to take any size, and take only its own
                raise
            tensors = {name: _to_tensor(output) for name, output in outputs.items()}
            return _Trial(tensors, (height, width))

    def _check_rows(self, tried: _Trial) -> None:
        """Do the rows make sense? Another layout than the true one rarely gives scores in 0..1."""
        outputs = [tried.outputs[name] for name in self._format.outputs]
        if not all(bool(torch.isfinite(output).all()) for output in outputs):
            raise ValueError("it gives numbers that are not finite")
        rows = self._format.decode(outputs, tried.image_size)
        expected = 4 + self.num_classes + self.num_keypoints * self.keypoint_dimensions
        if rows.ndim != 3 or rows.shape[2] != expected:
            raise ValueError(f"its rows have the shape {tuple(rows.shape)}, not {expected} columns")
        images = 1 if self._format.without_batch else self._input.batch or 1
        if rows.shape[0] != images:
            raise ValueError(f"it gives results of {rows.shape[0]} images for {images}")
        scores = rows[..., 4 : 4 + self.num_classes]
        if scores.numel() and not -1e-3 <= scores.min() <= scores.max() <= 1 + 1e-3:
            raise ValueError(
                f"its scores lie between {scores.min():.3g} and {scores.max():.3g}, expected 0 to "
                f"1: its outputs may have another layout than {self.layout}; say which "
                "(onnx_layout)"
            )


@dataclass(frozen=True)
class _Trial:
    """What came of trying a file: outputs by name, and the size of the image."""

    outputs: dict[str, Tensor]
    image_size: tuple[int, int]


def _to_tensor(output: np.ndarray) -> Tensor:
    """An output as float32."""
    return torch.from_numpy(np.asarray(output, np.float32))


def check_input(
    shape: Sequence[int | str | None], dtype: str, path: Path, num_inputs: int
) -> InputFacts:
    """Check the input of a file.

    Args:
        shape: its dimensions; no number where it is free.
        dtype: "float32" or "float16" if it is one that can be fed.
        path: the file, for errors.
        num_inputs: how many inputs it has.

    Raises:
        CheckpointError: it is not one input (B, 3, H, W) of floating-point numbers.
    """
    sizes = [size if isinstance(size, int) and size > 0 else None for size in shape]
    wrong = num_inputs != 1 or len(sizes) != 4 or dtype not in ("float32", "float16")
    if wrong or sizes[1] not in (3, None):
        raise CheckpointError(
            f"cannot use {path}: expected one input of float32 or float16 with the shape (batch, "
            f"3, height, width), got {num_inputs}, the first of {dtype} with {list(shape)!s:.200}"
        )
    batch, _, height, width = sizes
    if (height is None) != (width is None):
        raise CheckpointError(
            f"cannot use {path}: expected height and width of its input both fixed or both free, "
            f"got {list(shape)!s:.200}"
        )
    pixels = (batch or 1) * (height or 1) * (width or 1)
    if (
        max(height or 0, width or 0) > MAX_SIDE
        or (batch or 0) > MAX_BATCH
        or pixels > MAX_SIDE * MAX_SIDE
    ):
        raise CheckpointError(
            f"cannot use {path}: expected an input of at most {MAX_BATCH} images, {MAX_SIDE} "
            f"pixels a side and {MAX_SIDE * MAX_SIDE} in all, got {list(shape)!s:.200}"
        )
    size = (height, width) if height is not None and width is not None else None
    return InputFacts(batch, size, np.dtype(dtype))
