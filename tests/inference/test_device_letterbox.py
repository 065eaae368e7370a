"""Letterboxing on the device gives the pixels of OpenCV, bit for bit."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pose_node.inference.device_letterbox import (
    WEIGHT_ONE,
    DeviceLetterbox,
    linear_taps,
)
from pose_node.inference.letterbox import Letterbox

CPU = torch.device("cpu")
SIDE = st.integers(1, 90)


def drawn_by_opencv(
    images: np.ndarray, box: Letterbox, *, swaps: list[bool], scale: float, dtype: torch.dtype
) -> torch.Tensor:
    canvas = np.empty((len(images), box.height, box.width, 3), np.uint8)
    for image, target, swap in zip(images, canvas, swaps, strict=True):
        box.draw(image, target)
        if swap:
            target[:] = target[..., ::-1].copy()
    return torch.from_numpy(canvas).to(dtype).mul_(scale)


def drawn_on_device(
    images: np.ndarray, box: Letterbox, *, swaps: list[bool], scale: float, dtype: torch.dtype
) -> torch.Tensor:
    canvas = torch.full((len(images), box.height, box.width, 3), torch.nan, dtype=dtype)
    letterbox = DeviceLetterbox(box, scale=scale, device=CPU)
    letterbox.draw(torch.from_numpy(images), torch.tensor(swaps), canvas)
    return canvas


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@given(SIDE, SIDE, st.sampled_from((32, 64, 96)), st.booleans(), st.booleans())
@example(72, 128, 64, True, False)  # halved, where OpenCV takes another way
@example(64, 64, 64, True, True)  # not scaled at all
@example(1, 1, 96, True, True)
@settings(max_examples=150)
def test_any_image_becomes_what_opencv_makes_of_it(
    height: int, width: int, size: int, centred: bool, swap: bool
) -> None:
    images = noise(2, height, width, 3, seed=height * 100 + width)
    box = Letterbox.fit(height, width, image_size=size, stride=32, centred=centred)
    kind = {"swaps": [swap, False], "scale": 1 / 255, "dtype": torch.float32}
    assert torch.equal(drawn_on_device(images, box, **kind), drawn_by_opencv(images, box, **kind))


@pytest.mark.parametrize("size", [(720, 1280), (1080, 1920), (480, 640), (480, 848), (1281, 721)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_sizes_of_cameras(size: tuple[int, int], dtype: torch.dtype) -> None:
    images = noise(1, *size, 3)
    box = Letterbox.fit(*size, image_size=640, stride=32)
    kind = {"swaps": [True], "scale": 1 / 255, "dtype": dtype}
    assert torch.equal(drawn_on_device(images, box, **kind), drawn_by_opencv(images, box, **kind))


def test_the_values_of_a_network_that_wants_none_scaled_are_whole_numbers() -> None:
    images = noise(1, 50, 31, 3)
    box = Letterbox.fit(50, 31, image_size=64, stride=32, input_size=(64, 64), centred=False)
    kind = {"swaps": [False], "scale": 1.0, "dtype": torch.float16}
    canvas = drawn_on_device(images, box, **kind)
    assert torch.equal(canvas, drawn_by_opencv(images, box, **kind))
    assert torch.equal(canvas, canvas.round())
    assert canvas[0, -1, -1].tolist() == [114.0, 114.0, 114.0]


def test_weights_are_shares_of_one_and_pixels_are_in_the_image() -> None:
    for source, target in ((1, 7), (7, 1), (640, 480), (480, 640)):
        for across in (True, False):
            first, second, of_first, of_second = linear_taps(source, target, across=across)
            assert first.min() >= 0
            assert second.max() < source
            assert set((second - first).tolist()) <= {0, 1}
            assert (np.abs(of_first + of_second - WEIGHT_ONE) <= 1).all()


def test_opencv_scales_as_it_did() -> None:
    """What the arithmetic was taken from: if OpenCV changes it, this says so first."""
    ramp = np.array([[[0, 10, 255], [255, 11, 0]]], np.uint8)
    scaled = cv2.resize(ramp, (5, 1), interpolation=cv2.INTER_LINEAR)
    assert scaled[0, :, 0].tolist() == [0, 26, 128, 229, 255]
