"""Brings raw images to the device: through pinned memory, which is filled while it works."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from pose_node.process_settings import available_processors

MAX_THREADS = 4


class ImageUpload:
    """Memory of the device that images are copied to, one after the other without gaps.

    On a GPU the bytes pass through pinned memory, from where the device fetches them by itself.
    There are two such buffers in turn: while one is still being fetched, the other is filled.

    Args:
        num_bytes: room for so many.
        device: where.

    Attributes:
        pixels: (num_bytes,) uint8 on the device.
    """

    def __init__(self, num_bytes: int, device: torch.device) -> None:
        self.pixels = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
        self._pinned: list[torch.Tensor] = []
        self._fetched: list[torch.cuda.Event] = []
        if device.type == "cuda":
            for _ in range(2):
                self._pinned.append(torch.zeros(num_bytes, dtype=torch.uint8).pin_memory())
                fetched = torch.cuda.Event()  # type: ignore[no-untyped-call]
                self._fetched.append(fetched)
        self._turn = 0
        # One processor copies some bytes in a nanosecond: several images are shared among some.
        threads = min(MAX_THREADS, available_processors() // 2) - 1
        self._threads = ThreadPoolExecutor(threads, "image upload") if threads > 0 else None

    def __call__(self, images: Sequence[np.ndarray]) -> None:
        """Copy the images; on a GPU, in the current stream, without waiting for the device.

        Args:
            images: arrays (H, W, 3) uint8, rows may be padded. May be changed afterwards.
        """
        if not self._pinned:
            self._fill(self.pixels, images)
            return
        buffer, fetched = self._pinned[self._turn], self._fetched[self._turn]
        self._turn = 1 - self._turn
        fetched.synchronize()
        self._fill(buffer, images, send=True)
        fetched.record()

    def _fill(
        self, buffer: torch.Tensor, images: Sequence[np.ndarray], *, send: bool = False
    ) -> None:
        ends = np.cumsum([image.size for image in images]).tolist()
        spans = list(zip([0, *ends], ends, strict=False))
        memory = buffer.numpy()

        def copy(image: np.ndarray, start: int, end: int) -> None:
            np.copyto(memory[start:end].reshape(image.shape), image)

        run = self._threads.submit if self._threads else None
        others = [
            run(copy, image, *span) if run else None
            for image, span in zip(images[1:], spans[1:], strict=True)
        ]
        for index, (image, (start, end)) in enumerate(zip(images, spans, strict=True)):
            other = others[index - 1] if index else None
            if other is not None:
                other.result()
            else:
                copy(image, start, end)
            if send:  # while the next one is being copied
                self.pixels[start:end].copy_(buffer[start:end], non_blocking=True)
