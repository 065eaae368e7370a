"""Letterboxing on the device: raw camera bytes in, the network's input out.

The arithmetic is that of `cv2.resize` with ``INTER_LINEAR`` on 8 bits, integer for integer (weights
of 11 bits, two roundings), so that the network sees the same pixels as after `Letterbox.draw`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from pose_node.inference.letterbox import PADDING_GREY, Letterbox

WEIGHT_ONE = 1 << 11


def linear_taps(source: int, target: int, *, across: bool) -> np.ndarray:
    """Which two source pixels make a target pixel, and how much of each.

    Args:
        source, target: pixels along one side of the image, before and after scaling.
        across: whether columns or rows are meant. Beyond the last pixel OpenCV takes the last
            column whole, but the last row as two shares of itself, which rounds differently.

    Returns:
        (4, target) int32: first and second source pixel, and the weights of both in 1/2048.
    """
    scale = 1.0 / (target / source)
    position = ((np.arange(target) + 0.5) * scale - 0.5).astype(np.float32)
    whole = np.floor(position)
    share = position - whole
    first = whole.astype(np.int64)
    if across:
        share[(first < 0) | (first >= source - 1)] = 0
    one = np.float32(WEIGHT_ONE)
    weights = np.rint((np.float32(1) - share) * one), np.rint(share * one)
    ends = np.clip(first, 0, source - 1), np.clip(first + 1, 0, source - 1)
    return np.stack((*ends, *weights)).astype(np.int32)


class DeviceLetterbox:
    """Draws images of one size onto canvases.

    Args:
        box: where such an image lies.
        scale: what pixel values are multiplied by.
        device: where to compute.
        kernels: `pose_node.inference.triton_kernels`, to draw by one kernel; None for torch's own
            operators, with the same results.
    """

    def __init__(
        self, box: Letterbox, *, scale: float, device: torch.device, kernels: Any = None
    ) -> None:
        self.box = box
        self._scale = scale
        self._kernels = kernels
        columns = linear_taps(box.image_width, box.scaled_width, across=True)
        rows = linear_taps(box.image_height, box.scaled_height, across=False)
        self._columns = torch.from_numpy(columns).to(device)
        self._rows = torch.from_numpy(rows).to(device)

    def draw(self, images: Tensor, swaps: Tensor, canvas: Tensor) -> None:
        """Scale, pad and normalise the images.

        Args:
            images: (N, image_height, image_width, 3) uint8, contiguous.
            swaps: (N,) bool: whether red and blue of an image change places.
            canvas: (N, height, width, 3) float16 or float32, contiguous, overwritten completely.
        """
        box = self.box
        if self._kernels is not None:
            self._kernels.draw(
                images,
                swaps,
                canvas,
                self._rows,
                self._columns,
                corner=(box.top, box.left),
                grey=PADDING_GREY,
                scale=self._scale,
            )
            return
        pixels = self._resize(images)
        pixels = torch.where(swaps[:, None, None, None], pixels.flip(3), pixels)
        right = box.width - box.left - box.scaled_width
        bottom = box.height - box.top - box.scaled_height
        pixels = pad(pixels, (0, 0, box.left, right, box.top, bottom), value=PADDING_GREY)
        canvas.copy_(pixels.to(canvas.dtype).mul_(self._scale))

    def _resize(self, images: Tensor) -> Tensor:
        """(N, scaled_height, scaled_width, 3) int32, 0 to 255."""
        left, right, of_left, of_right = (part[:, None] for part in self._columns)
        upper, lower, of_upper, of_lower = (part[:, None, None] for part in self._rows)

        def across(rows: Tensor) -> Tensor:
            line = images[:, rows.flatten()]
            first, second = line[:, :, left.flatten()], line[:, :, right.flatten()]
            return first.to(torch.int32) * of_left + second.to(torch.int32) * of_right

        total = (of_upper * (across(upper) >> 4) >> 16) + (of_lower * (across(lower) >> 4) >> 16)
        return (total + 2) >> 2
