"""Images arrive one after the other, without the padding of their rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from pose_node.inference import image_upload
from pose_node.inference.image_upload import ImageUpload

IMAGES = [
    np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    for seed, size in enumerate(((5, 7, 3), (5, 7, 3), (1, 1, 3), (9, 2, 3)))
]


def padded(image: np.ndarray) -> np.ndarray:
    height, width, _ = image.shape
    wide = np.zeros((height, width + 5, 3), np.uint8)
    wide[:, :width] = image
    wide.flags.writeable = False
    return wide[:, :width]


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("form", [np.array, padded, lambda image: image[::-1][::-1]])
def test_bytes_arrive(
    threads: int, form: Callable[[np.ndarray], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_upload, "available_processors", lambda: 2 * threads + 2)
    total = sum(image.size for image in IMAGES)
    upload = ImageUpload(total + 100, torch.device("cpu"))
    for images in (IMAGES, IMAGES[:1], IMAGES[::-1]):
        upload([form(image) for image in images])
        expected = np.concatenate([image.ravel() for image in images])
        np.testing.assert_array_equal(upload.pixels[: len(expected)].numpy(), expected)


@pytest.mark.gpu
def test_bytes_arrive_on_the_gpu_however_fast_they_are_sent() -> None:
    if not torch.cuda.is_available():
        pytest.skip("GPU missing: torch finds no CUDA device")
    upload = ImageUpload(3 * 700 * 900, torch.device("cuda"))
    seen = []
    images = [np.full((700, 900, 3), value, np.uint8) for value in range(20)]
    torch.cuda._sleep(100_000_000)  # the device is busy, the copies have to wait
    for image in images:
        upload([image])
        seen.append(upload.pixels.clone())
    for value, pixels in enumerate(seen):
        assert (pixels == value).all()
