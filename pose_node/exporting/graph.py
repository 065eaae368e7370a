"""Network and decoding as one module, which other programs run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pose_node.models import PoseNetwork

MAX_FINAL_ROWS = 300
"""Rows of an export that needs no suppression, as many as exports of Ultralytics have."""


class ExportedGraph(nn.Module):
    """A network whose output is one tensor, in the layouts that Ultralytics exports have.

    With suppression still to do, the layout is "ultralytics", (B, 4 + classes + K * D, A): centre
    x, y, width, height; class scores with objectness multiplied in; keypoints. Without, it is
    "ultralytics-final", (B, 300, 6 + K * D): x1 y1 x2 y2, score, class, keypoints, the best first.

    Args:
        network: on the CPU, fused.
    """

    def __init__(self, network: PoseNetwork) -> None:
        super().__init__()
        self.network = network
        self.eval()

    @property
    def layout(self) -> str:
        """Name of the layout, see `pose_node.inference.onnx_layouts`."""
        return "ultralytics-final" if self.network.end_to_end else "ultralytics"

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) as the network's preprocessing says, to the output."""
        rows = self.network.decode(self.network(images))
        classes_end = 4 + self.network.num_classes
        first, second = rows[..., :2], rows[..., 2:4]
        if self.network.end_to_end:
            scores, classes = rows[..., 4:classes_end].max(2, keepdim=True)
            parts = (first, second, scores, classes.to(rows.dtype), rows[..., classes_end:])
            return _best(torch.cat(parts, 2))
        box = ((first + second) / 2, second - first)
        return torch.cat((*box, rows[..., 4:]), 2).transpose(1, 2)


def _best(rows: Tensor) -> Tensor:
    """The rows (B, A, C) with the highest scores, in column 4, filled up with zeros."""
    empty = rows.new_zeros(rows.shape[0], MAX_FINAL_ROWS, rows.shape[2])
    rows = torch.cat((rows, empty), 1)
    best = rows[..., 4].topk(MAX_FINAL_ROWS, 1).indices
    return rows.gather(1, best[..., None].expand(-1, -1, rows.shape[2]))
