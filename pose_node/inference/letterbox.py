"""Fits images of any size into a network's input, and its results back into the image.

The image is scaled to fit, keeping its aspect, centred, and padded with grey to multiples of the
stride and no further; for networks that were trained so, it lies in the top-left corner, or the
input has a fixed size. Sizes and offsets are rounded as the networks' own programs round them, so
that results agree with theirs. Coordinates count from the top-left corner of the top-left
pixel, so scaling is a plain multiplication.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

PADDING_GREY = 114


@dataclass(frozen=True)
class Letterbox:
    """Where an image lies in a network's input. All values in pixels.

    Attributes:
        image_width, image_height: size of the image.
        scaled_width, scaled_height: its size within the input.
        left, top: its offset within the input.
        width, height: size of the input.
    """

    image_width: int
    image_height: int
    scaled_width: int
    scaled_height: int
    left: int
    top: int
    width: int
    height: int

    @classmethod
    def fit(
        cls,
        image_height: int,
        image_width: int,
        *,
        image_size: int,
        stride: int,
        input_size: tuple[int, int] | None = None,
        centred: bool = True,
    ) -> Letterbox:
        """The smallest input for an image whose longer side becomes `image_size`.

        Args:
            image_height, image_width: size of the image, at least 1.
            image_size: longer side of the input, a multiple of `stride`.
            stride: what both sides of the input must be multiples of.
            input_size: height and width of the input, instead of `image_size`.
            centred: whether the image lies in the middle of the input, or, as YOLOX has it, in the
                top-left corner with its size rounded down.
        """
        height, width = input_size or (image_size, image_size)
        scale = min(height / image_height, width / image_width)
        rounded = round if centred else int
        scaled_width = max(rounded(image_width * scale), 1)
        scaled_height = max(rounded(image_height * scale), 1)
        space_x, space_y = width - scaled_width, height - scaled_height
        if input_size is None:
            space_x, space_y = space_x % stride, space_y % stride
        return cls(
            image_width=image_width,
            image_height=image_height,
            scaled_width=scaled_width,
            scaled_height=scaled_height,
            # An odd pixel of space goes to the right and bottom.
            left=round(space_x / 2 - 0.1) if centred else 0,
            top=round(space_y / 2 - 0.1) if centred else 0,
            width=scaled_width + space_x,
            height=scaled_height + space_y,
        )

    def draw(self, image: np.ndarray, canvas: np.ndarray) -> None:
        """Write the scaled image and its padding into `canvas`.

        Args:
            image: (image_height, image_width, 3) uint8; rows may be padded.
            canvas: (height, width, 3) uint8, overwritten completely.
        """
        bottom, right = self.top + self.scaled_height, self.left + self.scaled_width
        canvas[: self.top] = PADDING_GREY
        canvas[bottom:] = PADDING_GREY
        canvas[self.top : bottom, : self.left] = PADDING_GREY
        canvas[self.top : bottom, right:] = PADDING_GREY
        inner = canvas[self.top : bottom, self.left : right]
        if (self.scaled_height, self.scaled_width) == image.shape[:2]:
            inner[:] = image
        else:
            size = (self.scaled_width, self.scaled_height)
            inner[:] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)

    def to_image(self, xy: np.ndarray) -> np.ndarray:
        """Points in the input as points in the image.

        Args:
            xy: (..., 2) float32.

        Returns:
            An array like `xy`.
        """
        offset = np.array((self.left, self.top), np.float32)
        scale = np.array(
            (self.scaled_width / self.image_width, self.scaled_height / self.image_height),
            np.float32,
        )
        return (xy - offset) / scale
