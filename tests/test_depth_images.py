"""Depth images: every form to the depth it was made of, and every refusal."""

from __future__ import annotations

import array
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose_node.depth_images import check_depth, to_depth
from pose_node.errors import ImageError
from pose_node.imaging import CompressedImage, RawImage

HEIGHT, WIDTH = 6, 9
MILLIMETRES = np.random.default_rng(3).integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)
MILLIMETRES[2, 3:7] = 0
METRES = (MILLIMETRES / 1000).astype(np.float32)
METRES[MILLIMETRES == 0] = np.nan
METRES[0, 0] = np.inf
A, B = 110.0, -10.0


def raw(depth: np.ndarray, encoding: str, *, padding: int = 0, big: bool = False) -> RawImage:
    """A depth image, each row followed by `padding` odd bytes."""
    rows = depth.astype(depth.dtype.newbyteorder(">" if big else "<")).view(np.uint8)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=213)
    return RawImage(encoding, *depth.shape[::-1], padded.shape[1], padded.tobytes(), big)


def encode_rvl(depth: np.ndarray) -> bytes:
    """The run-length code, number by number as its paper describes it."""
    halves: list[int] = []

    def write(number: int) -> None:
        while number > 7:
            halves.append(number & 7 | 8)
            number >>= 3
        halves.append(number)

    values, position, before = depth.ravel().tolist(), 0, 0
    while position < len(values):
        for of_zeros in (True, False):
            end = position
            while end < len(values) and (values[end] == 0) == of_zeros:
                end += 1
            write(end - position)
            for value in () if of_zeros else values[position:end]:
                difference, before = value - before, value
                write(2 * difference if difference >= 0 else -2 * difference - 1)
            position = end
    halves += [0] * (-len(halves) % 8)
    words = [halves[start : start + 8] for start in range(0, len(halves), 8)]
    numbers = [int("".join(f"{half:x}" for half in word), 16) for word in words]
    return struct.pack(f"<{len(numbers)}I", *numbers)


def compressed(
    pixels: np.ndarray, format: str = "16UC1; compressedDepth png", *, a: float = A, b: float = B
) -> CompressedImage:
    config = struct.pack("<iff", 0, a, b)
    if "rvl" in format:
        return CompressedImage(
            format, config + struct.pack("<II", *pixels.shape[::-1]) + encode_rvl(pixels)
        )
    return CompressedImage(format, config + cv2.imencode(".png", pixels)[1].tobytes())


def quantised(metres: np.ndarray) -> np.ndarray:
    """As compressed_depth_image_transport stores floating point depth."""
    with np.errstate(invalid="ignore"):
        return np.where(metres < 50, A / metres + B, 0).astype(np.uint16)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("padding", [0, 1, 6])
@pytest.mark.parametrize("encoding", ["16UC1", "mono16", "32FC1"])
def test_raw(encoding: str, padding: int, big: bool) -> None:
    expected = METRES if encoding == "32FC1" else MILLIMETRES
    image = raw(expected, encoding, padding=padding, big=big)
    assert check_depth(image) == (WIDTH, HEIGHT)
    found = to_depth(image)
    assert found.dtype == expected.dtype
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, expected)


def test_raw_is_a_read_only_view() -> None:
    data = array.array("B", MILLIMETRES.tobytes())
    found = to_depth(RawImage("16UC1", WIDTH, HEIGHT, 2 * WIDTH, data))
    assert np.shares_memory(found, np.frombuffer(data, np.uint8))
    assert not found.flags.writeable


def test_the_last_row_needs_no_padding() -> None:
    image = raw(MILLIMETRES, "16UC1", padding=6)
    assert isinstance(image.data, bytes)
    cut = RawImage("16UC1", WIDTH, HEIGHT, image.step, image.data[:-6])
    np.testing.assert_array_equal(to_depth(cut), MILLIMETRES)


@pytest.mark.parametrize(
    "format",
    [
        "16UC1; compressedDepth png",
        "16UC1; compressedDepth",
        "16UC1",
        "mono16; compressedDepth png",
        "16UC1; compressedDepth rvl",
    ],
)
def test_compressed_millimetres(format: str) -> None:
    image = compressed(MILLIMETRES, format)
    assert check_depth(image) == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(to_depth(image), MILLIMETRES)


@pytest.mark.parametrize("codec", ["png", "rvl"])
def test_compressed_metres(codec: str) -> None:
    metres = np.array([[0.5, 1.0, 2.0, np.nan], [4.0, 49.0, 60.0, np.inf]], np.float32)
    found = to_depth(compressed(quantised(metres), f"32FC1; compressedDepth {codec}"))
    assert found.dtype == np.float32
    known = np.isfinite(metres) & (metres < 10)
    np.testing.assert_allclose(found[known], metres[known], rtol=0.06)  # one step of quantisation
    pixels = quantised(metres)[known].astype(np.float32)
    np.testing.assert_allclose(found[known], A / (pixels - B), rtol=1e-6)
    assert np.isnan(found[~np.isfinite(metres)]).all()


def test_compressed_metres_are_never_behind_the_camera() -> None:
    pixels = np.array([[1, 2, 3, 50]], np.uint16)
    found = to_depth(compressed(pixels, "32FC1; compressedDepth png", b=2.0))
    np.testing.assert_allclose(found, [[np.nan, np.inf, A, A / 48]])


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.sampled_from([0, 0, 1, 7, 1500, 1504, 32768, 65535]), min_size=1, max_size=60),
    st.integers(1, 4),
)
def test_rvl_of_any_image(values: list[int], rows: int) -> None:
    pixels = np.tile(np.array(values, np.uint16), (rows, 1))
    np.testing.assert_array_equal(
        to_depth(compressed(pixels, "16UC1; compressedDepth rvl")), pixels
    )


def test_rvl_of_a_real_image(shared: Path) -> None:
    pixels = cv2.imread(str(shared / "data/rgbd/person_depth_mm.png"), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    np.testing.assert_array_equal(
        to_depth(compressed(pixels, "16UC1; compressedDepth rvl")), pixels
    )


def changed(image: RawImage, **changes: Any) -> RawImage:
    return RawImage(**{**vars(image), **changes})


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"encoding": "bgr8"}, "unknown encoding"),
        ({"encoding": "x" * 10_000}, "unknown encoding"),
        ({"width": 0}, "zero area"),
        ({"height": 0}, "zero area"),
        ({"width": 1 << 31, "height": 1 << 31, "step": 1 << 31}, "absurd size"),
        ({"step": 2 * WIDTH - 1}, "step too small"),
        ({"data": bytes(2 * WIDTH * HEIGHT - 1)}, "data too short"),
        ({"height": 1000}, "data too short"),
        ({"data": np.zeros((2, 2 * WIDTH * HEIGHT), np.uint8)[:, ::2]}, "wrong data type"),
    ],
)
def test_refused_raw_images(changes: dict[str, Any], kind: str) -> None:
    image = changed(raw(MILLIMETRES, "16UC1"), **changes)
    for read in (check_depth, to_depth):
        with pytest.raises(ImageError) as raised:
            read(image)
        assert raised.value.kind == kind
        assert len(str(raised.value)) < 300


PNG = compressed(MILLIMETRES)
RVL = compressed(MILLIMETRES, "16UC1; compressedDepth rvl")
CONFIG = struct.pack("<iff", 0, A, B)


def bytes_of(image: CompressedImage) -> bytes:
    assert isinstance(image.data, bytes)
    return image.data


@pytest.mark.parametrize(
    ("format", "data", "kind"),
    [
        (PNG.format, b"", "empty data"),
        (PNG.format, CONFIG, "empty data"),
        ("bgr8; jpeg compressed bgr8", bytes_of(PNG), "unknown compressed format"),
        ("16UC1; compressedDepth zstd", bytes_of(PNG), "unknown compressed format"),
        ("8UC1; compressedDepth png", bytes_of(PNG), "unknown encoding"),
        ("", bytes_of(PNG), "unknown compressed format"),
        (PNG.format, CONFIG + b"no image at all, in any way", "unknown compressed format"),
        (PNG.format, CONFIG + cv2.imencode(".bmp", np.zeros((4, 4, 3), np.uint8))[1].tobytes(),
         "broken compressed image"),
        (RVL.format, CONFIG + bytes(7), "broken compressed image"),
        (RVL.format, CONFIG + struct.pack("<II", 0, 5) + bytes(8), "zero area"),
        (RVL.format, CONFIG + struct.pack("<II", 1 << 16, 1 << 16) + bytes(8), "absurd size"),
        (RVL.format, CONFIG + struct.pack("<II", 4000, 2001) + bytes(8), "absurd size"),
        ("32FC1; compressedDepth png", struct.pack("<iff", 0, np.nan, 0) + bytes_of(PNG)[12:],
         "broken compressed image"),
        ("32FC1; compressedDepth png", struct.pack("<iff", 0, 0, 0) + bytes_of(PNG)[12:],
         "broken compressed image"),
    ],
)  # fmt: skip
def test_refused_at_the_door(format: str, data: bytes, kind: str) -> None:
    for read in (check_depth, to_depth):
        with pytest.raises(ImageError) as raised:
            read(CompressedImage(format, data))
        assert raised.value.kind == kind


def test_data_must_be_bytes() -> None:
    with pytest.raises(ImageError, match="contiguous bytes, got str"):
        check_depth(CompressedImage(PNG.format, "text"))  # type: ignore[arg-type]


def png(pixels: np.ndarray) -> bytes:
    return CONFIG + cv2.imencode(".png", pixels)[1].tobytes()


def rvl(*words: int, width: int = 4, height: int = 2) -> bytes:
    return CONFIG + struct.pack(f"<II{len(words)}I", width, height, *words)


@pytest.mark.parametrize(
    ("format", "data", "reason"),
    [
        (PNG.format, bytes_of(PNG)[:-20], "ends before"),
        (PNG.format, bytes_of(PNG)[:60] + bytes(8) + bytes_of(PNG)[68:], "cannot be decoded"),
        (PNG.format, png(np.zeros((4, 4), np.uint8)), "uint8, expected 16 bits"),
        (PNG.format, png(np.zeros((4, 4, 3), np.uint16)), "cannot be decoded as one channel"),
        (RVL.format, rvl(), "without numbers"),
        (RVL.format, rvl(0x99999999), "without numbers"),
        (RVL.format, rvl(0x99999999, 0x99999900), "endless number"),
        (RVL.format, rvl(0x00000000), "goes wrong at 0"),  # no progress
        (RVL.format, rvl(0x10000000), "goes wrong at 0"),  # no values
        (RVL.format, rvl(0x01007000), "goes wrong at 1"),  # no zeros
        (RVL.format, rvl(0x61100000), "goes wrong at 7"),  # 6 zeros, 1 value, and no more
        (RVL.format, rvl(0x77000000), "goes wrong at 0"),  # 7 + 7 pixels of 8
        (RVL.format, rvl(0x07111111), "goes wrong at 7"),  # 7 values, of which 6 are there
        (RVL.format, rvl(0x08111111), "ends too early"),  # 8 values, of which 5 are there
    ],
)
def test_broken_inside(format: str, data: bytes, reason: str) -> None:
    image = CompressedImage(format, data)
    check_depth(image)
    with pytest.raises(ImageError, match=reason) as raised:
        to_depth(image)
    assert raised.value.kind == "broken compressed image"
