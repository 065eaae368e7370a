"""Compares what a written file gives with what torch gives, on a real image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from pose_node.exporting.graph import ExportedGraph
from pose_node.exporting.writers import Runner, Shape
from pose_node.inference.letterbox import Letterbox
from pose_node.models.preprocessing import Preprocessing

SCORE_TOLERANCE = 1e-4

MIN_SCORE = 0.05
"""Predictions with less are too vague for their place to mean anything."""

FEWEST_ROWS = 10
"""Compared of each image, the best first, also where fewer have that score."""


@dataclass(frozen=True)
class Difference:
    """How far a file is from torch.

    Attributes:
        pixels: the largest difference of a coordinate.
        scores: the largest difference of a score of a prediction or keypoint.
        rows: predictions that were compared.
        best_score: of all of them; a low one means that the image shows nobody.
        sizes: width and height of the inputs.
        precision: in which torch computed.
    """

    pixels: float
    scores: float
    rows: int
    best_score: float
    sizes: tuple[tuple[int, int], ...]
    precision: str

    def within(self, pixel_tolerance: float) -> bool:
        """Whether both are small enough; a number that is none is not."""
        return self.pixels <= pixel_tolerance and self.scores <= SCORE_TOLERANCE


@torch.inference_mode()
def measure_difference(
    graph: ExportedGraph,
    run: Runner,
    image: np.ndarray,
    shape: Shape,
    *,
    precision: torch.dtype = torch.float32,
) -> Difference:
    """Run a written file and torch on an image, and compare their predictions.

    Args:
        graph: what was written.
        run: runs the file.
        image: (H, W, 3) uint8, BGR.
        shape: what the file takes. A dynamic one is also tried on two images, and on another size.
        precision: in which torch computes, which must be that of `graph`.

    Raises:
        ValueError: the file gives something of another shape.
    """
    pixels, scores, rows, best, sizes = 0.0, 0.0, 0, 0.0, []
    for images in _inputs(image, shape, graph.network.preprocessing):
        expected, found = graph(images.to(precision)), run(images)
        if not isinstance(found, Tensor) or found.shape != expected.shape:
            raise ValueError(
                f"expected an output of {tuple(expected.shape)}, got "
                f"{tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__}"
            )
        for ours, theirs in zip(expected, found, strict=True):
            ours, theirs = _pair(graph, ours, theirs)
            gap = (ours - theirs).abs()
            is_score = _score_columns(graph, gap.shape[1])
            pixels = _largest(pixels, gap[:, ~is_score])
            scores = _largest(scores, gap[:, is_score])
            rows += len(ours)
            best = max(best, float(_scores(graph, ours).max()))
        sizes.append((images.shape[3], images.shape[2]))
    return Difference(pixels, scores, rows, best, tuple(sizes), str(precision).split(".")[-1])


def _inputs(image: np.ndarray, shape: Shape, preprocessing: Preprocessing) -> Iterator[Tensor]:
    yield _batch(image, shape.batch, (shape.height, shape.width), preprocessing)
    if shape.dynamic:
        stride = shape.stride
        rows, columns = shape.height // 2 // stride, shape.width // 2 // stride
        yield _batch(image, 2, (max(rows, 1) * stride, (columns + 1) * stride), preprocessing)


def _batch(
    image: np.ndarray, count: int, size: tuple[int, int], preprocessing: Preprocessing
) -> Tensor:
    """The image, and beside it mirrored ones, as the network wants them."""
    height, width = image.shape[:2]
    box = Letterbox.fit(
        *(height, width), image_size=0, stride=1, input_size=size, centred=preprocessing.centred
    )
    canvas = np.empty((*size, 3), np.uint8)
    box.draw(image, canvas)
    if preprocessing.channel_order == "rgb":
        cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB, dst=canvas)
    pixels = torch.from_numpy(canvas).permute(2, 0, 1).float().mul_(preprocessing.scale)
    return torch.stack([pixels if i % 2 == 0 else pixels.flip(2) for i in range(count)])


def _pair(graph: ExportedGraph, ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """The predictions of one image that are worth comparing, (N, columns) of each side."""
    final = graph.layout == "ultralytics-final"
    if not final:
        ours, theirs = ours.T, theirs.T
    scores = _scores(graph, ours)
    count = max(int((scores > MIN_SCORE).sum()), min(FEWEST_ROWS, len(ours)))
    best = scores.argsort(descending=True)[:count]
    if not final:
        return ours[best], theirs[best]
    ours = ours[best]
    # Rows of almost the same score may have changed places: each is compared with its nearest.
    gaps = torch.cdist(ours.double(), theirs.double(), p=float("inf"))
    return ours, theirs[gaps.argmin(1)]


def _scores(graph: ExportedGraph, rows: Tensor) -> Tensor:
    if graph.layout == "ultralytics-final":
        return rows[:, 4]
    return rows[:, 4 : 4 + graph.network.num_classes].amax(1)


def _score_columns(graph: ExportedGraph, columns: int) -> Tensor:
    """Which columns hold scores; the class of a final row, which must agree, counts as one."""
    network = graph.network
    first = 6 if graph.layout == "ultralytics-final" else 4 + network.num_classes
    is_score = torch.zeros(columns, dtype=torch.bool)
    is_score[4:first] = True
    if network.keypoint_dimensions == 3:
        is_score[first + 2 :: 3] = True
    return is_score


def _largest(so_far: float, gap: Tensor) -> float:
    """The largest so far; a gap that is no number counts as infinite."""
    largest = float(gap.nan_to_num(nan=torch.inf).max()) if gap.numel() else 0.0
    return max(so_far, largest)
