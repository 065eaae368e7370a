"""From raw camera bytes on the device to packed people on the device, in static shapes.

A pipeline belongs to one composition of a batch: so many images of these sizes. It reads and writes
the same memory every time and asks the host nothing, so that it can be recorded as a CUDA graph; on
the CPU the same code runs as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from types import ModuleType

import torch
from torch import Tensor

from pose_node.inference.cuda_graph import precise_convolutions
from pose_node.inference.device_letterbox import DeviceLetterbox
from pose_node.inference.device_suppression import (
    Candidates,
    Kept,
    keep_best,
    select_candidates,
    suppress,
)
from pose_node.inference.letterbox import Letterbox
from pose_node.inference.networks import Network
from pose_node.poses import ChannelOrder

MAX_CANDIDATES = 1024
"""Boxes of one image that enter suppression on the device."""

MAX_PEOPLE = 128
"""People of one image that come back from the device; see `DeviceEngine` for more."""

HEADER = 3
"""Numbers before the people of an image: who stayed, who was found, whether that is final."""


InputSize = tuple[int, int]
"""Height and width of the network's input."""


def image_bytes(box: Letterbox) -> int:
    """Bytes of an image's pixels, 3 each, without padding of rows."""
    return box.image_height * box.image_width * 3


class LiveSettings:
    """Thresholds and classes in memory of the device, where recorded graphs read them.

    Args:
        num_classes: classes of the network.
        device: where.

    Attributes:
        score_threshold, iou_threshold: () float32.
        wanted: (num_classes,) bool.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.score_threshold = torch.zeros((), device=device)
        self.iou_threshold = torch.zeros((), device=device)
        self.wanted = torch.ones(num_classes, dtype=torch.bool, device=device)
        self._given: tuple[float, float, tuple[int, ...] | None] | None = None

    def set(
        self, score_threshold: float, iou_threshold: float, classes: tuple[int, ...] | None
    ) -> None:
        """Write what changed."""
        given = (score_threshold, iou_threshold, classes)
        if given == self._given:
            return
        self.score_threshold.fill_(score_threshold)
        self.iou_threshold.fill_(iou_threshold)
        numbers = range(len(self.wanted))
        wanted = [classes is None or number in classes for number in numbers]
        self.wanted.copy_(torch.tensor(wanted))
        self._given = given


def decode_precisely(network: Network, batch: Tensor) -> Tensor:
    """Rows of a batch, decoded in float32.

    Args:
        network: of torch.
        batch: (B, 3, H, W) float32 or float16.
    """
    with precise_convolutions():
        raw = network(batch)
    if batch.dtype == torch.float16:  # which cannot tell neighbouring pixels apart beyond 1024
        raw = [type(maps)(*(part.float() for part in maps)) for maps in raw]
    return network.decode(raw)


class DevicePipeline:
    """Letterbox, network, decoding, selection, suppression and back to pixels of the images.

    Args:
        network: on its device, of torch, in the precision of `dtype`.
        boxes: where each image lies in its input, in the order of their bytes; the inputs have one
            size. Images alike are best side by side.
        pixels: uint8 on the device, where the images' bytes will lie one after the other.
        shared_rows: memory for the rows of the largest batch of each size of input so far, which
            all pipelines share. What is not there yet is put there.
        settings: on the device.
        dtype: float16 or float32, that of the network's input.
        kernels: see `choose_kernels`.

    Attributes:
        rows: (B, A, 4 + classes + K * dimensions) float32, what the network said, after a call and
            until the next of any pipeline with this size of input.
        people: (B, HEADER + MAX_PEOPLE * (5 + 3 * K)) float32, after a call: see `HEADER`, then of
            each person box, score, and keypoints in pixels of the image.
    """

    def __init__(
        self,
        network: Network,
        boxes: Sequence[Letterbox],
        *,
        pixels: Tensor,
        shared_rows: dict[InputSize, Tensor],
        settings: LiveSettings,
        dtype: torch.dtype,
        kernels: ModuleType | None = None,
    ) -> None:
        self._network = network
        self._settings = settings
        self._kernels = kernels
        self._dtype = dtype
        self._size = boxes[0].height, boxes[0].width
        self._shared_rows = shared_rows
        device, scale = pixels.device, network.preprocessing.scale
        self._channel_orders: Sequence[ChannelOrder] | None = None
        self._swaps = torch.zeros(len(boxes), dtype=torch.bool, device=device)
        self._drawings: list[tuple[DeviceLetterbox, Tensor, slice]] = []
        done = offset = 0
        for box, alike in groupby(boxes):
            count = len(list(alike))
            raw = pixels[offset : offset + count * image_bytes(box)]
            letterbox = DeviceLetterbox(box, scale=scale, device=device, kernels=kernels)
            images = raw.view(count, box.image_height, box.image_width, 3)
            self._drawings.append((letterbox, images, slice(done, done + count)))
            done, offset = done + count, offset + len(raw)
        self._offset, self._scale, self._limit = _back(boxes, device)
        self._person = 5 + 3 * network.num_keypoints
        self.rows = torch.empty(0, device=device)
        self.people = torch.zeros(len(boxes), HEADER + MAX_PEOPLE * self._person, device=device)

    def set_channel_orders(self, orders: Sequence[ChannelOrder]) -> None:
        """Write which order the channels of each image have, if that changed."""
        if orders != self._channel_orders:
            wanted = self._network.preprocessing.channel_order
            self._swaps.copy_(torch.tensor([order != wanted for order in orders]))
            self._channel_orders = orders

    def __call__(self) -> None:
        """Images in `pixels` to `rows` and `people`."""
        self.infer(self.draw())
        self.select()

    def draw(self) -> Tensor:
        """Images in `pixels` to the network's input: (B, 3, height, width), channels last."""
        shape = len(self._swaps), *self._size, 3
        canvas = torch.empty(shape, dtype=self._dtype, device=self._swaps.device)
        for letterbox, images, part in self._drawings:
            letterbox.draw(images, self._swaps[part], canvas[part])
        return canvas.permute(0, 3, 1, 2)

    def infer(self, batch: Tensor) -> None:
        """The network's input to `rows`: side by side, in memory that no graph reuses meanwhile."""
        decoded = decode_precisely(self._network, batch)
        if self.rows.shape != decoded.shape:
            largest = self._shared_rows.get(self._size)
            if largest is None or len(largest) < len(decoded):
                largest = torch.empty(decoded.shape, device=decoded.device)
                self._shared_rows[self._size] = largest
            self.rows = largest[: len(decoded)]
        self.rows.copy_(decoded)

    def select(self) -> None:
        """`rows` to `people`."""
        candidates = select_candidates(
            self.rows,
            num_classes=self._network.num_classes,
            limit=MAX_CANDIDATES,
            score_threshold=self._settings.score_threshold,
            wanted=self._settings.wanted,
        )
        if self._network.end_to_end:
            kept = keep_best(candidates, MAX_PEOPLE)
        else:
            kept = suppress(
                candidates,
                iou_threshold=self._settings.iou_threshold,
                max_kept=MAX_PEOPLE,
                kernels=self._kernels,
            )
        header = torch.stack((kept.count, candidates.found, kept.settled.long()), 1)
        self.people[:, :HEADER].copy_(header)
        self.people[:, HEADER:].copy_(self._in_images(candidates, kept).flatten(1))

    def _in_images(self, candidates: Candidates, kept: Kept) -> Tensor:
        """(B, MAX_PEOPLE, 5 + 3 * K): box, score and keypoints of the kept, in image pixels."""
        network = self._network
        batch, count = kept.places.shape
        chosen = candidates.rows.gather(1, kept.places)
        rows = self.rows.gather(1, chosen[..., None].expand(-1, -1, self.rows.shape[2]))
        corners = (rows[..., :4].view(batch, count, 2, 2) - self._offset) / self._scale
        corners = torch.minimum(corners.clamp_(min=0), self._limit)
        points = rows[..., 4 + network.num_classes :].reshape(
            batch, count, network.num_keypoints, network.keypoint_dimensions
        )
        xy = (points[..., :2] - self._offset) / self._scale
        score = (
            points[..., 2:] if network.keypoint_dimensions == 3 else xy.new_ones(*xy.shape[:3], 1)
        )
        scores = candidates.scores.gather(1, kept.places)
        keypoints = torch.cat((xy, score), 3)
        return torch.cat((corners.flatten(2), scores[..., None], keypoints.flatten(2)), 2)


def _back(boxes: Sequence[Letterbox], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Offset and scale of each image in its input, and its size, all (B, 1, 1, 2) float32.

    As tensors: by a number, torch would not divide but multiply with its inverse.
    """
    columns = (
        [(box.left, box.top) for box in boxes],
        [
            (box.scaled_width / box.image_width, box.scaled_height / box.image_height)
            for box in boxes
        ],
        [(box.image_width, box.image_height) for box in boxes],
    )
    offset, scale, limit = (
        torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 2).to(device) for values in columns
    )
    return offset, scale, limit
