"""The output of an exported network: its columns, and its best rows."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from pose_node.exporting.graph import MAX_FINAL_ROWS, ExportedGraph


class Canned(nn.Module):
    """Two classes, one keypoint, always the same rows."""

    num_classes = 2

    def __init__(self, rows: Tensor, *, end_to_end: bool) -> None:
        super().__init__()
        self.rows = rows
        self.end_to_end = end_to_end

    def forward(self, images: Tensor) -> Tensor:
        return images

    def decode(self, raw: Tensor) -> Tensor:
        return self.rows.expand(len(raw), *self.rows.shape)


ROWS = torch.tensor(
    [
        [10, 20, 30, 60, 0.2, 0.1, 1, 2, 0.5],
        [0, 0, 10, 10, 0.3, 0.9, 3, 4, 0.6],
    ]
)


def graph(*, end_to_end: bool) -> ExportedGraph:
    return ExportedGraph(cast(Any, Canned(ROWS, end_to_end=end_to_end)))


def test_columns() -> None:
    exported = graph(end_to_end=False)
    output = exported(torch.zeros(2, 3, 8, 8))
    assert exported.layout == "ultralytics"
    assert output.shape == (2, 9, 2)
    torch.testing.assert_close(output[1, :, 0], torch.tensor([20, 40, 20, 40, 0.2, 0.1, 1, 2, 0.5]))


def test_final_rows_are_sorted_and_filled_up() -> None:
    exported = graph(end_to_end=True)
    output = exported(torch.zeros(1, 3, 8, 8))
    assert exported.layout == "ultralytics-final"
    assert output.shape == (1, MAX_FINAL_ROWS, 9)
    torch.testing.assert_close(output[0, 0], torch.tensor([0, 0, 10, 10, 0.9, 1, 3, 4, 0.6]))
    torch.testing.assert_close(output[0, 1], torch.tensor([10, 20, 30, 60, 0.2, 0, 1, 2, 0.5]))
    assert not output[0, 2:].any()
