"""How a network wants its images: a property of how it was trained, so it belongs to the model."""

from __future__ import annotations

from dataclasses import dataclass

from pose_node.poses import ChannelOrder


@dataclass(frozen=True)
class Preprocessing:
    """What becomes of an image (8 bits a channel) before the network sees it.

    Attributes:
        channel_order: "rgb" or "bgr".
        scale: what pixel values are multiplied by.
        centred: whether the image lies in the middle of the input, or in its top-left corner.
        square: whether the input is always square, or no larger than the image needs.
    """

    channel_order: ChannelOrder = "rgb"
    scale: float = 1 / 255
    centred: bool = True
    square: bool = False
