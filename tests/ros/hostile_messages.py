"""Messages that no camera sends: fields, images and bytes that lie, each from one number.

By chance from a seed, so that each can be made again. `hostile` makes one; hostile_run.py sends
them. Import it only where rclpy can be imported.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header

WIDTH, HEIGHT = 16, 12
ENCODINGS = (
    *("mono8", "bgr8", "rgb8", "bgra8", "rgba8", "mono16", "bgr16", "yuyv", "uyvy", "nv12", "nv21"),
    *("bayer_rggb8", "bayer_gbrg16", "8UC1", "8UC3", "16UC1", "32FC1", "32SC4", "64FC3", "yuv422"),
)
SIZES = (0, 1, 2, 3, 15, 16, 17, 999, 1000, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)
TEXTS = (
    "",
    "x",
    "\n",
    "%s%n",
    "../..",
    "камера_🎥",
    "a" * 5000,
    "bgr8; jpeg compressed bgr8",
    "16UC1",
)
NUMBERS = (0.0, -0.0, 1.0, -1.0, 1e-300, 1e300, float("nan"), float("inf"), -float("inf"))
CODECS = (".jpg", ".png", ".webp", ".bmp", ".tiff", ".pgm", ".ppm", ".jp2", ".gif", ".sr", ".hdr")


def hostile_header(chance: random.Random) -> Header:
    """Any stamp and frame."""
    seconds = chance.choice([0, 1, 1_700_000_000, 2**31 - 1, -(2**31)])
    nanoseconds = chance.choice([0, 1, 999_999_999, 10**9, 2**32 - 1])
    return Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id=chance.choice(TEXTS))


def hostile_image(chance: random.Random) -> Image:
    """A raw image of which some fields lie."""
    encoding = chance.choice(ENCODINGS)
    width, height = WIDTH, HEIGHT
    if chance.random() < 0.4:
        width = chance.choice(SIZES)
    if chance.random() < 0.4:
        height = chance.choice(SIZES)
    right = min(width * chance.choice((1, 2, 3, 4, 8)), 2**32 - 1)
    step = right if chance.random() < 0.6 else chance.choice(SIZES)
    whole = step * height
    length = whole if whole < 100_000 else 1000
    length = chance.choice((length, length, length - 1, length + 1, 0, length // 2))
    if chance.random() < 0.1:
        encoding = chance.choice(TEXTS)
    return Image(
        header=hostile_header(chance),
        width=width,
        height=height,
        encoding=encoding,
        is_bigendian=chance.choice((0, 0, 1, 255)),
        step=step,
        data=chance.randbytes(max(length, 0)),
    )


def hostile_compressed(chance: random.Random) -> CompressedImage:
    """A compressed image whose file is damaged, foreign or a bomb."""
    maker = chance.choice((damaged_file, damaged_file, damaged_file, file_that_lies, no_file))
    text = chance.choice(("jpeg", "png", "bgr8; jpeg compressed bgr8", *TEXTS))
    return CompressedImage(header=hostile_header(chance), format=text, data=maker(chance))


def hostile_depth(chance: random.Random) -> Image:
    """A depth image of which some fields lie."""
    message = hostile_image(chance)
    message.encoding = chance.choice(("16UC1", "32FC1", "mono16", message.encoding))
    return message


def hostile_compressed_depth(chance: random.Random) -> CompressedImage:
    """Compressed depth with any header and any image."""
    quantization = struct.pack("<i", chance.choice((0, 1, -1, 2**31 - 1)))
    quantization += np.array(_numbers(chance, 2)).clip(-3e38, 3e38).astype("<f4").tobytes()
    start = chance.choice((quantization, quantization, b"", quantization[:7], chance.randbytes(12)))
    maker = chance.choice((damaged_file, file_that_lies, no_file))
    text = chance.choice(
        ("16UC1; compressedDepth", "32FC1; compressedDepth png", "16UC1; compressedDepth rvl", "")
    )
    return CompressedImage(header=hostile_header(chance), format=text, data=start + maker(chance))


def hostile_camera_info(chance: random.Random) -> CameraInfo:
    """A calibration that fits nothing."""
    return CameraInfo(
        header=hostile_header(chance),
        width=chance.choice(SIZES),
        height=chance.choice(SIZES),
        distortion_model=chance.choice(("plumb_bob", "rational_polynomial", "equidistant", *TEXTS)),
        d=_numbers(chance, chance.choice((0, 1, 4, 5, 8, 14, 1000))),
        k=_numbers(chance, 9),
        r=_numbers(chance, 9),
        p=_numbers(chance, 12),
        binning_x=chance.choice(SIZES),
        binning_y=chance.choice(SIZES),
        roi=RegionOfInterest(
            x_offset=chance.choice(SIZES),
            y_offset=chance.choice(SIZES),
            width=chance.choice(SIZES),
            height=chance.choice(SIZES),
            do_rectify=chance.random() < 0.5,
        ),
    )


def hostile(chance: random.Random, make: Callable[[random.Random], Any]) -> Any:
    """A message of `make`, or the damaged bytes of one.

    Never no bytes at all: Fast DDS drops those, and a reliable subscription then waits in vain for
    what its publisher sends after them. That does not concern other publishers.
    """
    message = make(chance)
    if chance.random() < 0.6:
        return message
    return damage(chance, serialize_message(message), lengths=True) or b"\0"


def damage(chance: random.Random, data: bytes, *, lengths: bool = False) -> bytes:
    """Bytes cut, longer, turned over, or with other numbers (`lengths`: of 32 bits) in them."""
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 50))):
        at = chance.randrange(len(damaged)) if damaged else 0
        what = chance.randrange(6)
        if what == 0:
            del damaged[at:]
        elif what == 1:
            damaged[at:at] = chance.randbytes(chance.choice((1, 4, 100)))
        elif what == 2 and lengths:
            number = chance.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, len(damaged)))
            damaged[at // 4 * 4 : at // 4 * 4 + 4] = struct.pack("<I", number)
        elif what == 3:
            damaged[at : at + chance.choice((2, 100))] = b""
        elif damaged:
            damaged[at % len(damaged)] ^= 1 << chance.randrange(8)
    return bytes(damaged)


@cache
def encoded(codec: str) -> bytes:
    """A small image as a file of this kind; "" where OpenCV cannot write it."""
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    try:
        done, data = cv2.imencode(codec, pixels)
    except cv2.error:
        return b""
    return data.tobytes() if done else b""


def damaged_file(chance: random.Random) -> bytes:
    """An image file with damage."""
    return damage(chance, encoded(chance.choice(CODECS)))


def file_that_lies(chance: random.Random) -> bytes:
    """An image file that claims a size it does not have, or has one that nobody wants."""
    width, height = chance.choice(SIZES), chance.choice(SIZES)
    maker = chance.choice((png_that_claims, jpeg_that_claims, bmp_that_claims, png_bomb))
    return maker(width, height)


def no_file(chance: random.Random) -> bytes:
    """Bytes that are no image, some behind the first bytes of one."""
    start = chance.choice((b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"BM", b"II*\0"))
    return start + chance.randbytes(chance.choice((0, 1, 10, 1000, 20_000)))


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of that size, by its header alone; its checksum is right."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return encoded(".png")[:8] + _chunk(b"IHDR", head) + encoded(".png")[33:]


def jpeg_that_claims(width: int, height: int) -> bytes:
    """A JPEG of that size, by its header alone."""
    data = bytearray(encoded(".jpg"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height & 0xFFFF, width & 0xFFFF)
    return bytes(data)


def bmp_that_claims(width: int, height: int) -> bytes:
    """A BMP of that size, by its header alone; some are negative."""
    data = bytearray(encoded(".bmp"))
    data[18:26] = struct.pack("<II", width, height)
    return bytes(data)


@cache
def _zeros(count: int) -> bytes:
    return zlib.compress(bytes(count))


def png_bomb(width: int, height: int) -> bytes:
    """A PNG of a few KiB that unpacks to 16 MiB: more than its header says, or as it says."""
    if width % 2:
        width, height = 4096, 4096
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = _chunk(b"IDAT", _zeros((4096 + 1) * 4096)) + _chunk(b"IEND", b"")
    return encoded(".png")[:8] + _chunk(b"IHDR", head) + body


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _numbers(chance: random.Random, count: int) -> list[float]:
    return [chance.choice((*NUMBERS, chance.uniform(-1000, 1000))) for _ in range(count)]
