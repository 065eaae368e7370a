"""How far a written file is from torch: every column counts, and nothing that is not a number."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pose_node.exporting.check import Difference, measure_difference
from pose_node.exporting.graph import ExportedGraph
from pose_node.exporting.writers import Shape
from pose_node.models.preprocessing import Preprocessing

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 80, 3), np.uint8)
SHAPE = Shape(batch=1, height=64, width=64, dynamic=False, stride=32)


class Canned(nn.Module):
    """One class, one keypoint, always the same rows."""

    num_classes = 1

    def __init__(self, *, end_to_end: bool = False, dimensions: int = 3) -> None:
        super().__init__()
        self.keypoint_dimensions = dimensions
        self.preprocessing = Preprocessing()
        self.end_to_end = end_to_end
        self.rows = torch.rand(1, 30, 5 + dimensions, generator=torch.Generator().manual_seed(0))

    def forward(self, images: Tensor) -> Tensor:
        return images

    def decode(self, raw: Tensor) -> Tensor:
        return self.rows.expand(len(raw), -1, -1) + raw.mean((1, 2, 3))[:, None, None]


def graph(**options: Any) -> ExportedGraph:
    return ExportedGraph(cast(Any, Canned(**options)))


def differing(exported: ExportedGraph, amount: float, column: int) -> Difference:
    def run(images: Tensor) -> Tensor:
        output = exported(images).clone()
        (output[:, :, column] if exported.network.end_to_end else output[:, column]).add_(amount)
        return output

    return measure_difference(exported, run, PICTURE, SHAPE)


@pytest.mark.parametrize("column", range(8))
def test_columns(column: int) -> None:
    difference = differing(graph(), 0.01, column)
    is_score = column in (4, 7)
    assert difference.scores == pytest.approx(0.01 if is_score else 0, abs=1e-6)
    assert difference.pixels == pytest.approx(0 if is_score else 0.01, abs=1e-6)
    assert not difference.within(1e-3)
    assert difference.within(0.1) != is_score


@pytest.mark.parametrize(("column", "is_score"), [(0, False), (4, True), (5, True), (8, True)])
def test_columns_of_final_rows(column: int, is_score: bool) -> None:
    difference = differing(graph(end_to_end=True), 0.01, column)
    assert (difference.scores > 5e-3, difference.pixels > 5e-3) == (is_score, not is_score)


def test_keypoints_without_scores() -> None:
    assert differing(graph(dimensions=2), 0.01, 6).pixels == pytest.approx(0.01, abs=1e-6)


def test_no_number_is_no_match() -> None:
    assert differing(graph(), np.nan, 5).pixels == np.inf
    assert not differing(graph(), np.nan, 5).within(1e9)


def test_final_rows_may_change_places() -> None:
    exported = graph(end_to_end=True)

    def run(images: Tensor) -> Tensor:
        return exported(images).flip(1)

    difference = measure_difference(exported, run, PICTURE, SHAPE)
    assert difference.within(1e-3)
    assert difference.rows == 30
    assert 0.9 < difference.best_score < 2


def test_dynamic_files_are_tried_on_two_sizes_and_two_images() -> None:
    exported = graph()
    seen = []

    def run(images: Tensor) -> Tensor:
        seen.append(tuple(images.shape))
        if len(images) == 2:
            torch.testing.assert_close(images[0].flip(2), images[1])
        assert 0 <= images.min() < images.max() <= 1
        return exported(images)

    shape = Shape(batch=3, height=128, width=64, dynamic=True, stride=32)
    difference = measure_difference(exported, run, PICTURE, shape)
    assert seen == [(3, 3, 128, 64), (2, 3, 64, 64)]
    assert difference.sizes == ((64, 128), (64, 64))
    assert difference.rows == 5 * 30


@pytest.mark.parametrize("output", [torch.zeros(1, 8, 29), [1]])
def test_output_of_another_shape(output: Any) -> None:
    with pytest.raises(ValueError, match=r"expected an output of \(1, 8, 30\), got"):
        measure_difference(graph(), lambda images: output, PICTURE, SHAPE)


def test_precision() -> None:
    exported = graph()
    seen = []

    def run(images: Tensor) -> Tensor:
        seen.append(images.dtype)
        return exported(images)

    difference = measure_difference(exported, run, PICTURE, SHAPE, precision=torch.float64)
    assert seen == [torch.float32]
    assert difference.precision == "float64"
    assert difference.pixels < 1e-6
