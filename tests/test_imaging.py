"""Image bytes to arrays: every encoding against the colours it was made of, and every refusal."""

from __future__ import annotations

import array
import struct
import sys
import tracemalloc
import types
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose_node import imaging
from pose_node.errors import ImageError
from pose_node.image_headers import read_header
from pose_node.imaging import (
    KNOWN_ENCODINGS,
    CompressedImage,
    RawImage,
    check,
    decode_file,
    encode_jpeg,
    to_array,
)

HEIGHT, WIDTH = 6, 8
BGR = np.random.default_rng(7).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY = BGR[..., 0]
# Left half strongly blue, right half strongly red: a mosaic or chroma read wrongly swaps them.
BLUE_RED = np.zeros((16, 32, 3), np.uint8)
BLUE_RED[:, :16] = (220, 60, 20)
BLUE_RED[:, 16:] = (30, 90, 200)


def raw(
    encoding: str, pixels: np.ndarray, *, padding: int = 0, height: int = 0, big: bool = False
) -> RawImage:
    """An image message of these pixels (rows first), each row followed by `padding` odd bytes."""
    rows = pixels.reshape(len(pixels), -1).view(np.uint8)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=213)
    return RawImage(
        encoding, pixels.shape[1], height or len(pixels), padded.shape[1], padded.tobytes(), big
    )


def bytes_of(message: RawImage) -> bytes:
    """The data of a message that `raw` made, the very object."""
    assert isinstance(message.data, bytes)
    return message.data


def mosaic(bgr: np.ndarray, pattern: str) -> np.ndarray:
    """What a sensor with this colour filter, named by its first two rows, sees of an image."""
    seen = np.empty(bgr.shape[:2], np.uint8)
    for index, colour in enumerate(pattern):
        row, column = divmod(index, 2)
        seen[row::2, column::2] = bgr[row::2, column::2, "bgr".index(colour)]
    return seen


def luma_chroma(bgr: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Y, U, V of each pixel, uint8, BT.601 limited range."""
    blue, green, red = (bgr[..., channel].astype(float) for channel in range(3))
    luma = 16 + (65.738 * red + 129.057 * green + 25.064 * blue) / 256
    u = 128 + (-37.945 * red - 74.494 * green + 112.439 * blue) / 256
    v = 128 + (112.439 * red - 94.154 * green - 18.285 * blue) / 256
    return luma.round().astype(np.uint8), u.round().astype(np.uint8), v.round().astype(np.uint8)


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "pixels", "expected", "order"),
    [
        ("bgr8", BGR, BGR, "bgr"),
        ("8UC3", BGR, BGR, "bgr"),
        ("rgb8", BGR[..., ::-1], BGR[..., ::-1], "rgb"),
        ("bgra8", np.dstack([BGR, GREY]), BGR, "bgr"),
        ("8UC4", np.dstack([BGR, GREY]), BGR, "bgr"),
        ("rgba8", np.dstack([BGR[..., ::-1], GREY]), BGR, "bgr"),
        ("mono8", GREY, np.dstack([GREY] * 3), "bgr"),
        ("8UC1", GREY, np.dstack([GREY] * 3), "bgr"),
    ],
)
def test_eight_bit_encodings(
    encoding: str, pixels: np.ndarray, expected: np.ndarray, order: str, padding: int
) -> None:
    image, channel_order = to_array(raw(encoding, np.ascontiguousarray(pixels), padding=padding))
    assert channel_order == order
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize(("encoding", "channels"), [("mono16", 1), ("bgr16", 3), ("rgb16", 3)])
def test_sixteen_bits_keep_the_upper_eight(
    encoding: str, channels: int, padding: int, big: bool
) -> None:
    values = np.random.default_rng(3).integers(0, 65536, (HEIGHT, WIDTH, channels))
    stored = np.ascontiguousarray(values.astype(">u2" if big else "<u2"))
    image, order = to_array(raw(encoding, stored, padding=padding, big=big))
    assert order == ("rgb" if encoding == "rgb16" else "bgr")
    np.testing.assert_array_equal(image, np.broadcast_to(values >> 8, (HEIGHT, WIDTH, 3)))


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_bayer_gives_back_the_colours(pattern: str, bits: int, padding: int) -> None:
    seen = mosaic(BLUE_RED, pattern)
    stored = seen if bits == 8 else seen.astype("<u2") << 8
    image, order = to_array(raw(f"bayer_{pattern}{bits}", stored, padding=padding))
    assert order == "bgr"
    for columns in (slice(2, 14), slice(18, 30)):  # Away from the border between the colours.
        np.testing.assert_array_equal(image[2:-2, columns], BLUE_RED[2:-2, columns])


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", ["uyvy", "yuv422", "yuyv", "yuv422_yuy2"])
def test_yuv422(encoding: str, padding: int) -> None:
    luma, u, v = luma_chroma(BLUE_RED)
    chroma = np.where(np.arange(32) % 2, v, u)
    pair = (chroma, luma) if encoding in ("uyvy", "yuv422") else (luma, chroma)
    image, order = to_array(raw(encoding, np.dstack(pair), padding=padding))
    assert order == "bgr"
    np.testing.assert_allclose(image.astype(int), BLUE_RED, atol=4)


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
def test_half_size_chroma_planes(encoding: str, padding: int) -> None:
    luma, u, v = luma_chroma(BLUE_RED)
    pair = (u, v) if encoding == "nv12" else (v, u)
    chroma = np.dstack(pair)[::2, ::2].reshape(8, 32)
    message = raw(encoding, np.concatenate([luma, chroma]), padding=padding, height=16)
    image, order = to_array(message)
    assert (image.shape, order) == ((16, 32, 3), "bgr")
    np.testing.assert_allclose(image.astype(int), BLUE_RED, atol=4)


@pytest.mark.parametrize("padding", [0, 6])
def test_full_size_chroma_plane(padding: int) -> None:
    luma, u, v = luma_chroma(BLUE_RED[:15, :31])  # Odd sizes are fine here.
    luma = np.pad(luma, ((0, 0), (0, padding)))
    chroma = np.pad(np.dstack([u, v]).reshape(15, 62), ((0, 0), (0, 2 * padding)))
    data = luma.tobytes() + chroma.tobytes()
    image, _ = to_array(RawImage("nv24", 31, 15, 31 + padding, data))
    np.testing.assert_allclose(image.astype(int), BLUE_RED[:15, :31], atol=4)


def test_every_known_encoding_is_accepted() -> None:
    data = bytes(16 * 48 * 8)
    for encoding in KNOWN_ENCODINGS:
        image, order = to_array(RawImage(encoding, 16, 16, 16 * 8, data))
        assert image.shape == (16, 16, 3), encoding
        assert image.dtype == np.uint8
        assert order in ("bgr", "rgb")


@pytest.mark.parametrize("encoding", ["bgr8", "rgb8", "8UC3"])
def test_three_channels_are_views_also_with_padded_rows(encoding: str) -> None:
    message = raw(encoding, BGR, padding=7)
    image, _ = to_array(message)
    assert np.shares_memory(image, np.frombuffer(bytes_of(message), np.uint8))
    assert image.strides == (WIDTH * 3 + 7, 3, 1)
    assert not image.flags.writeable


@pytest.mark.parametrize(
    "convert",
    [
        bytes,
        bytearray,
        memoryview,
        lambda data: array.array("B", data),
        lambda data: np.frombuffer(data, np.uint8),
        lambda data: np.frombuffer(data, np.uint8).reshape(2, -1),
    ],
)
def test_data_types(convert: Any) -> None:
    message = raw("bgr8", BGR)
    given_data = convert(bytes_of(message))
    image, _ = to_array(RawImage("bgr8", WIDTH, HEIGHT, WIDTH * 3, given_data))
    np.testing.assert_array_equal(image, BGR)
    png = cv2.imencode(".png", BGR)[1].tobytes()
    compressed = convert(png + bytes(len(png) % 2))
    np.testing.assert_array_equal(to_array(CompressedImage("png", compressed))[0], BGR)


def test_trailing_bytes_are_ignored() -> None:
    message = raw("bgr8", BGR)
    image, _ = to_array(RawImage("bgr8", WIDTH, HEIGHT, WIDTH * 3, bytes_of(message) + b"x" * 99))
    np.testing.assert_array_equal(image, BGR)


@pytest.mark.parametrize(
    ("message", "kind", "words"),
    [
        (RawImage("bgr8", 0, 5, 0, b""), "zero area", "0x5"),
        (RawImage("bgr8", 5, -1, 15, b""), "zero area", "5x-1"),
        (RawImage("bgr8", 2**31, 2**31, 2**32 - 1, b""), "absurd size", "2147483648x2147483648"),
        (RawImage("bgr8", 4, 4, 11, bytes(99)), "step too small", "12 bytes, got step 11"),
        (RawImage("mono16", 4, 4, 7, bytes(99)), "step too small", "8 bytes, got step 7"),
        (RawImage("bgr8", 4, 4, 12, bytes(47)), "data too short", "48 bytes, got 47"),
        (RawImage("bgr8", 4, 4, 2**32 - 1, bytes(48)), "data too short", "got 48"),
        (RawImage("nv12", 4, 4, 4, bytes(23)), "data too short", "24 bytes, got 23"),
        (RawImage("nv24", 4, 4, 4, bytes(47)), "data too short", "48 bytes, got 47"),
        (RawImage("nv12", 4, 3, 4, bytes(99)), "bad size", "4x3"),
        (RawImage("yuyv", 3, 4, 8, bytes(99)), "bad size", "3x4"),
        (RawImage("bayer_rggb8", 2, 4, 2, bytes(99)), "bad size", "at least 3"),
        (RawImage("16UC1", 4, 4, 8, bytes(99)), "unknown encoding", "bgr8"),
        (RawImage("x" * 10**6, 4, 4, 8, bytes(99)), "unknown encoding", "xxx..."),
        (RawImage("bgr8", 4, 4, 12, [0] * 48), "wrong data type", "list"),  # type: ignore[arg-type]
        (RawImage("bgr8", 2, 2, 6, memoryview(bytes(99))[::2]), "wrong data type", "contiguous"),
        (CompressedImage("jpeg", b""), "empty data", "without data"),
        (CompressedImage("jpeg", "text"), "wrong data type", "str"),  # type: ignore[arg-type]
        (CompressedImage("jpeg", b"just a message"), "unknown compressed format", "jpeg, png"),
        (CompressedImage("16UC1; compressedDepth png", b"\x89PNG"), "depth image", "depth"),
    ],
)
def test_refused_at_the_door(message: Any, kind: str, words: str) -> None:
    with pytest.raises(ImageError) as caught:
        check(message)
    assert caught.value.kind == kind
    assert words in str(caught.value)
    assert len(str(caught.value)) < 600
    with pytest.raises(ImageError) as again:
        to_array(message)
    assert again.value.kind == kind


def test_limit_is_the_callers() -> None:
    message = raw("bgr8", BGR)
    check(message, max_pixels=WIDTH * HEIGHT)
    with pytest.raises(ImageError, match="at most 47"):
        check(message, max_pixels=WIDTH * HEIGHT - 1)
    png = CompressedImage("png", cv2.imencode(".png", BGR)[1].tobytes())
    check(png, max_pixels=WIDTH * HEIGHT)
    with pytest.raises(ImageError, match="8x6 pixels, expected at most 47"):
        check(png, max_pixels=WIDTH * HEIGHT - 1)


def test_check_reads_no_pixels() -> None:
    pixels = np.zeros((4000, 4000, 3), np.uint8)
    compressed = CompressedImage("", cv2.imencode(".png", pixels)[1].tobytes())
    messages: list[RawImage | CompressedImage] = [raw("bgr8", pixels), compressed]
    tracemalloc.start()
    for message in messages:
        check(message)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000


@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
@pytest.mark.parametrize("shape", [(31, 57, 3), (40, 24, 3), (16, 16), (1, 1, 3)])
def test_compressed_formats(extension: str, shape: Any) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    data = cv2.imencode(extension, pixels)[1].tobytes()
    header = read_header(memoryview(data))
    assert (header.height, header.width) == shape[:2]
    assert header.format.startswith(extension[1:3])
    image, order = to_array(CompressedImage("whatever; it says", data + b"\0" * 5))
    assert (image.shape, order) == ((*shape[:2], 3), "bgr")
    assert image.dtype == np.uint8
    if extension in (".png", ".bmp", ".tiff"):
        np.testing.assert_array_equal(
            image, pixels if pixels.ndim == 3 else np.dstack([pixels] * 3)
        )


@pytest.mark.parametrize(
    ("flags", "chunk"),
    [([cv2.IMWRITE_WEBP_QUALITY, 101], b"VP8L"), ([cv2.IMWRITE_WEBP_QUALITY, 50], b"VP8 ")],
)
def test_both_kinds_of_webp(flags: Any, chunk: Any) -> None:
    data = cv2.imencode(".webp", np.zeros((33, 77, 3), np.uint8), flags)[1].tobytes()
    assert data[12:16] == chunk
    header = read_header(memoryview(data))
    assert (header.width, header.height) == (77, 33)


def test_extended_webp_header() -> None:
    data = b"RIFF\x64\0\0\0WEBPVP8X" + struct.pack("<II", 10, 0) + b"\x4c\0\0\x20\0\x01"
    header = read_header(memoryview(data))
    assert (header.width, header.height) == (77, 65569)


def test_old_bmp_and_top_down_bmp() -> None:
    old = b"BM" + bytes(12) + struct.pack("<IHH", 12, 7, 5)
    top_down = b"BM" + bytes(12) + struct.pack("<Iii", 40, 7, -5)
    for data in (old, top_down):
        header = read_header(memoryview(data))
        assert (header.width, header.height) == (7, 5)


BROKEN = {
    "jpeg without frame": b"\xff\xd8\xff\xe0\x00\x04ab\xff\xd9",
    "jpeg with nonsense": b"\xff\xd8\xff\xe0\x00\x04abnonsense",
    "jpeg of fill bytes": b"\xff\xd8" + b"\xff" * 100_000,
    "jpeg with short segment": b"\xff\xd8\xff\xe0\x00\x01" + bytes(50),
    "jpeg of nothing": b"\xff\xd8\xff\xc0\x00\x11\x08\x00\x00\x00\x00" + bytes(50),
    "png without IHDR": b"\x89PNG\r\n\x1a\n" + bytes(50),
    "png cut": b"\x89PNG\r\n\x1a\n\x00\x00",
    "webp unknown": b"RIFF\0\0\0\0WEBPABCD" + bytes(50),
    "tiff without size": b"II*\0\x08\0\0\0\0\0",
    "tiff far away": b"MM\0*\xff\xff\xff\xff",
    "bmp of nothing": b"BM" + bytes(50),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_headers(name: str) -> None:
    with pytest.raises(ImageError, match="broken compressed image") as caught:
        check(CompressedImage("", BROKEN[name]))
    assert caught.value.kind == "broken compressed image"


def tiff(*entries: tuple[int, int, int, int]) -> bytes:
    """The start of a TIFF; entries are tag, type, count and value."""
    return (
        b"II*\0\x08\0\0\0"
        + struct.pack("<H", len(entries))
        + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    )


SHORT, LONG, LONG8 = 3, 4, 16


def test_a_tiff_says_its_size_once() -> None:
    """Decoders differ in which of two they believe."""
    good = tiff((256, SHORT, 1, 640), (257, LONG, 1, 480))
    check(CompressedImage("", good))
    for entries in (
        [(256, LONG, 1, 2000), (257, LONG, 1, 2000), (256, LONG, 1, 16), (257, LONG, 1, 16)],
        [(256, LONG8, 1, 16), (257, LONG, 1, 16)],
        [(256, LONG, 2, 16), (257, LONG, 1, 16)],
    ):
        with pytest.raises(ImageError, match="not one number of 16 or 32 bits"):
            check(CompressedImage("", tiff(*entries)), max_pixels=1000)


def test_a_jpeg_of_scans_without_end_is_refused() -> None:
    noise = np.random.default_rng(7).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    progressive = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert 5 < progressive.count(b"\xff\xda") < 20
    to_array(CompressedImage("", progressive))
    scan = progressive.rindex(b"\xff\xda")
    repeated = progressive[:scan] + 200 * progressive[scan:-2] + progressive[-2:]
    with pytest.raises(ImageError, match="more than 100 scans") as caught:
        to_array(CompressedImage("", repeated))
    assert caught.value.kind == "broken compressed image"


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(160, 120), (161, 127), (168, 121)])
@pytest.mark.parametrize("grey", [False, True])
def test_a_jpeg_is_decoded_smaller(reduction: int, size: tuple[int, int], grey: bool) -> None:
    width, height = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    picture = np.stack([x + 40, 1.5 * y + 20, 200 - x], 2).astype(np.uint8)
    pixels = picture[..., 0] if grey else picture
    message = CompressedImage("jpeg", cv2.imencode(".jpg", pixels)[1].tobytes())
    assert imaging.reducible_size(message) == size
    array, order = to_array(message, reduction=reduction)
    assert order == "bgr"
    assert array.shape == (-(-height // reduction), -(-width // reduction), 3)
    # Pixel i of the reduced image lies over pixels i * reduction and the following.
    middle = (np.mgrid[: height // reduction, : width // reduction] + 0.5) * reduction - 0.5
    expected = [middle[1] + 40] * 3 if grey else [middle[1] + 40, 1.5 * middle[0] + 20]
    whole = array[: height // reduction, : width // reduction].astype(np.float32)
    for channel, values in enumerate(expected):
        assert np.abs(whole[..., channel] - values).mean() < 1.5


def test_only_a_jpeg_can_be_decoded_smaller() -> None:
    assert imaging.reducible_size(raw("bgr8", BGR)) is None
    png = cv2.imencode(".png", BGR)[1].tobytes()
    assert imaging.reducible_size(CompressedImage("jpeg", png)) is None
    with pytest.raises(ImageError, match="no image format"):
        imaging.reducible_size(CompressedImage("jpeg", b"nonsense"))


def test_a_cut_off_jpeg_is_refused_when_decoded_smaller() -> None:
    noise = np.random.default_rng(5).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    data = encode_jpeg(noise)
    with pytest.raises(ImageError) as caught:
        to_array(CompressedImage("", data[: len(data) // 2]), reduction=2)
    assert caught.value.kind == "broken compressed image"


@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
@pytest.mark.parametrize("part", [0.5, 0.9, 0.995])
def test_cut_off_images_are_refused(extension: str, part: float) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    data = cv2.imencode(extension, noise)[1].tobytes()
    with pytest.raises(ImageError) as caught:
        to_array(CompressedImage("", data[: int(len(data) * part)]))
    assert caught.value.kind == "broken compressed image"


def test_thumbnail_does_not_pass_for_the_end() -> None:
    """A cut JPEG whose EXIF block holds a whole one still lacks its own end."""
    jpeg = encode_jpeg(np.zeros((64, 64, 3), np.uint8))
    thumbnail = struct.pack(">BBH", 0xFF, 0xE1, len(jpeg) + 2) + jpeg
    whole = jpeg[:2] + thumbnail + jpeg[2:]
    assert to_array(CompressedImage("", whole))[0].shape == (64, 64, 3)
    with pytest.raises(ImageError, match="ends before the image does"):
        to_array(CompressedImage("", whole[:-20]))


def test_undecodable_content_is_refused() -> None:
    png = bytearray(cv2.imencode(".png", BGR)[1].tobytes())
    png[45:60] = bytes(15)
    with pytest.raises(ImageError, match="cannot be decoded"):
        to_array(CompressedImage("", png))


def test_decoder_exception_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        error = cv2.error("no")
        error.err = "no memory"
        raise error

    monkeypatch.setattr(cv2, "imdecode", fail)
    png = cv2.imencode(".png", BGR)[1].tobytes()
    with pytest.raises(ImageError, match="no memory"):
        to_array(CompressedImage("", png))


def test_conversion_exception_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise cv2.error("no such conversion")

    monkeypatch.setattr(cv2, "cvtColor", fail)
    with pytest.raises(ImageError, match="8x6 mono8: no such conversion") as caught:
        to_array(raw("mono8", GREY))
    assert caught.value.kind == "cannot be converted"


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stand in for cv_bridge, or for its absence."""

    def install(convert: Any) -> Any:
        class CvBridge:
            imgmsg_to_cv2 = staticmethod(convert)

        module: Any = types.ModuleType("cv_bridge")
        if convert is not None:
            module.CvBridge = CvBridge
        monkeypatch.setitem(sys.modules, "cv_bridge", module)
        imaging._cv_bridge.cache_clear()

    yield install
    imaging._cv_bridge.cache_clear()


def test_other_encodings_go_through_cv_bridge(bridge: Any) -> None:
    bridge(lambda message, desired_encoding: np.full((message.height, message.width, 3), 9, "u1"))
    image, order = to_array(RawImage("8UC2", 4, 2, 8, bytes(16)))
    assert (image.shape, order, image.max()) == ((2, 4, 3), "bgr", 9)
    with pytest.raises(ImageError) as caught:
        check(RawImage("8UC2", 4, 2, 8, bytes(15)))
    assert caught.value.kind == "data too short"


def test_refusal_of_cv_bridge(bridge: Any) -> None:
    def refuse(message: Any, desired_encoding: Any) -> Any:
        raise TypeError("[16UC1] is not a color format")

    bridge(refuse)
    with pytest.raises(ImageError, match="not a color format") as caught:
        to_array(RawImage("16UC1", 4, 2, 8, bytes(16)))
    assert caught.value.kind == "cannot be converted"


def test_broken_cv_bridge_counts_as_none(bridge: Any) -> None:
    bridge(None)
    with pytest.raises(ImageError, match="install cv_bridge"):
        check(RawImage("16UC1", 4, 2, 8, bytes(16)))


def test_encode_jpeg_round_trip() -> None:
    padded = np.zeros((48, 80, 3), np.uint8)
    padded[:, :] = (40, 90, 200)
    image, _ = to_array(CompressedImage("jpeg", encode_jpeg(padded[:, :64], 95)))
    np.testing.assert_allclose(image.astype(int), padded[:, :64], atol=3)
    assert len(encode_jpeg(BLUE_RED, 10)) < len(encode_jpeg(BLUE_RED, 100))


@pytest.mark.parametrize("shape", [(2, 70_000, 3), (2, 2, 7)])
def test_encode_jpeg_refuses_what_jpeg_cannot_hold(shape: Any) -> None:
    with pytest.raises(ImageError, match="to JPEG"):
        encode_jpeg(np.zeros(shape, np.uint8))


ODD = {
    "785_16bit_gray.png": (425, 640),
    "785_16bit_rgb.png": (425, 640),
    "785_cmyk.jpg": (425, 640),
    "785_exif_orientation_6.jpg": (640, 425),
    "785_extreme_6000x40.jpg": (40, 6000),
    "785_gray.jpg": (425, 640),
    "785_rgba_transparent_left.png": (425, 640),
    "785_tiny_1x1.png": (1, 1),
    "white_640x480.png": (480, 640),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_files(shared: Path, name: str) -> None:
    content = (shared / "data" / "odd" / name).read_bytes()
    image, order = to_array(CompressedImage("", content))
    assert (image.shape, order) == ((*ODD[name], 3), "bgr")
    assert image.dtype == np.uint8
    if name.startswith("785_") and "1x1" not in name:
        assert 190 < image.mean() < 205  # All the same bright picture of a skier.


def test_orientation_is_applied_to_files_only(shared: Path) -> None:
    content = (shared / "data" / "odd" / "785_exif_orientation_6.jpg").read_bytes()
    as_stored, _ = to_array(CompressedImage("", content))
    upright = decode_file(content)
    assert upright.shape == (425, 640, 3)
    np.testing.assert_array_equal(upright, np.rot90(as_stored, -1))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("785_truncated_half.jpg", "broken compressed image"),
        ("empty.jpg", "empty data"),
        ("text_not_image.jpg", "unknown compressed format"),
    ],
)
def test_broken_files(shared: Path, name: str, kind: str) -> None:
    with pytest.raises(ImageError) as caught:
        to_array(CompressedImage("jpeg", (shared / "data" / "odd" / name).read_bytes()))
    assert caught.value.kind == kind


def test_huge_file_is_judged_by_its_header(shared: Path) -> None:
    message = CompressedImage("", (shared / "data/odd/785_huge_8000x5312.jpg").read_bytes())
    check(message)
    with pytest.raises(ImageError, match="8000x5312"):
        check(message, max_pixels=10_000_000)


def array_or_none(
    message: RawImage | CompressedImage, max_pixels: int = imaging.DEFAULT_MAX_PIXELS
) -> np.ndarray | None:
    """The array, or None for an image that is refused; any other error is a failure."""
    try:
        return to_array(message, max_pixels=max_pixels)[0]
    except ImageError:
        return None


sizes = st.one_of(st.integers(-2, 70), st.integers(0, 2**32 - 1))


@settings(max_examples=300, deadline=None)
@given(
    encoding=st.one_of(st.sampled_from(KNOWN_ENCODINGS), st.text(max_size=8)),
    width=sizes,
    height=sizes,
    step=sizes,
    data=st.binary(max_size=4000),
    big=st.booleans(),
)
def test_any_raw_claim_gives_an_image_or_an_image_error(
    encoding: str, width: int, height: int, step: int, data: Any, big: bool
) -> None:
    image = array_or_none(RawImage(encoding, width, height, step, data, big))
    if image is not None:
        assert image.shape == (height, width, 3)
        assert image.size <= 12 * len(data)


PREFIXES = [
    b"",
    b"\xff\xd8\xff",
    b"\xff\xd8\xff\xc0\x00\x11\x08",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    b"RIFF\xff\0\0\0WEBPVP8L",
    b"BM",
    b"II*\0\x08\0\0\0",
    b"MM\0*\0\0\0\x08",
]


@settings(max_examples=300, deadline=None)
@given(prefix=st.sampled_from(PREFIXES), rest=st.binary(max_size=300))
def test_any_compressed_bytes_give_an_image_or_an_image_error(prefix: bytes, rest: bytes) -> None:
    image = array_or_none(CompressedImage("jpeg", prefix + rest), max_pixels=10_000)
    if image is not None:
        assert 0 < image.size <= 30_000


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damaged_images_give_an_image_or_an_image_error(data: Any) -> None:
    extension = data.draw(st.sampled_from([".jpg", ".png", ".webp", ".bmp", ".tiff"]))
    content = bytearray(cv2.imencode(extension, BLUE_RED)[1].tobytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    image = array_or_none(CompressedImage("", content), max_pixels=10_000)
    if image is not None:
        assert 0 < image.size <= 30_000
