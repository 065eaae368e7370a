"""Depth images to arrays: raw encodings, and the compressedDepth format of image_transport.

What an image claims is judged before anything is allocated or decoded, as in `imaging`. No ROS is
needed here.

compressedDepth, as compressed_depth_image_transport writes it: a format text such as
"16UC1; compressedDepth png", a header of 12 bytes (a number, and the parameters A and B of floating
point depth), then a PNG of 16 bits, or for "rvl" width, height and a run-length code (Wilson, Fast
Lossless Depth Image Compression, 2017). A 32FC1 image holds in both p = A / depth + B, 0 for none.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

import cv2
import numpy as np

from pose_node.errors import ImageError
from pose_node.image_headers import broken, find_fault, read_header
from pose_node.imaging import DEFAULT_MAX_PIXELS, CompressedImage, RawImage

KNOWN_DEPTH_ENCODINGS: tuple[str, ...] = ("16UC1", "mono16", "32FC1")
"""Millimetres with 0 for unknown, twice, and metres with NaN for unknown (REP-118)."""

MAX_RVL_PIXELS = 8_000_000
"""More than depth cameras have: every run takes its time, and there may be one for two pixels."""

_CONFIG = struct.Struct("<iff")
_SIZE = struct.Struct("<II")
# 3 bits in each: enough for a run over any image that is accepted.
_LONGEST_NUMBER = 10
_FORMAT = re.compile(r"\s*(\w+)\s*(?:;\s*compressedDepth(?:\s+(\w+))?.*)?")


class _Header(NamedTuple):
    """What a compressed depth image says of itself; `data` is what follows its headers."""

    encoding: str
    codec: str
    width: int
    height: int
    parameters: tuple[float, float]
    data: memoryview


def check_depth(
    image: RawImage | CompressedImage, *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> tuple[int, int]:
    """Judge a depth image at the door, by its claims alone: nothing is decoded or copied.

    Args:
        image: as it came; a `CompressedImage` is one of compressedDepth.
        max_pixels: largest width * height to accept.

    Returns:
        Width and height.

    Raises:
        ImageError: it cannot be used; `kind` is "unknown encoding", "zero area", "absurd size",
            "step too small", "data too short", "empty data", "wrong data type",
            "unknown compressed format" or "broken compressed image".
    """
    if isinstance(image, RawImage):
        _check_raw(image, max_pixels)
        return image.width, image.height
    header = _read_compressed(image, max_pixels)
    return header.width, header.height


def to_depth(
    image: RawImage | CompressedImage, *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> np.ndarray:
    """Make an array of a depth image, after `check_depth`.

    Args:
        image: as it came; a `CompressedImage` is one of compressedDepth.
        max_pixels: largest width * height to accept.

    Returns:
        (H, W) uint16, millimetres with 0 for unknown; or float32, metres with NaN for unknown (but
        a sender may use infinity or 0, too). A raw image in the machine's byte order becomes a
        read-only view of its data, rows padded as they came.

    Raises:
        ImageError: as `check_depth`.
    """
    if isinstance(image, RawImage):
        _check_raw(image, max_pixels)
        return _view(image)
    header = _read_compressed(image, max_pixels)
    pixels = _decode_png(header) if header.codec == "png" else _decode_rvl(header)
    return pixels if header.encoding != "32FC1" else _to_metres(pixels, *header.parameters)


def _check_raw(image: RawImage, max_pixels: int) -> None:
    sample_bytes = _sample_bytes(image.encoding)
    _check_size(image.width, image.height, max_pixels)
    row_bytes = image.width * sample_bytes
    if image.step < row_bytes:
        raise ImageError(
            f"a row of {image.width} pixels {image.encoding} has {row_bytes} bytes, got step "
            f"{image.step}",
            kind="step too small",
        )
    available = _bytes_of(image).nbytes
    # Some drivers cut the padding of the last row.
    needed = image.step * (image.height - 1) + row_bytes
    if available < needed:
        raise ImageError(
            f"{image.width}x{image.height} {image.encoding} with step {image.step} needs {needed} "
            f"bytes, got {available}",
            kind="data too short",
        )


def _sample_bytes(encoding: str) -> int:
    if encoding not in KNOWN_DEPTH_ENCODINGS:
        raise ImageError(
            f"encoding {encoding[:40]!r} is no depth, expected one of "
            f"{', '.join(KNOWN_DEPTH_ENCODINGS)}; use the depth topic that is registered to the "
            "colour image",
            kind="unknown encoding",
        )
    return 4 if encoding == "32FC1" else 2


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"depth image of {width}x{height} pixels has no area", kind="zero area")
    if width * height > max_pixels:
        raise ImageError(
            f"depth image claims {width}x{height} pixels, expected at most {max_pixels} in all",
            kind="absurd size",
        )


def _bytes_of(image: RawImage | CompressedImage) -> memoryview:
    try:
        return memoryview(image.data).cast("B")
    except (TypeError, ValueError) as error:
        raise ImageError(
            f"image data must be contiguous bytes, got {type(image.data).__name__}",
            kind="wrong data type",
        ) from error


def _view(image: RawImage) -> np.ndarray:
    size = _sample_bytes(image.encoding)
    order = ">" if image.is_bigendian else "<"
    depth: np.ndarray = np.ndarray(
        (image.height, image.width),
        f"{order}{'f' if size == 4 else 'u'}{size}",
        buffer=_bytes_of(image),
        strides=(image.step, size),
    )
    depth.flags.writeable = False
    # No copy where the byte order is the machine's; rows may then start at odd addresses.
    return depth if depth.dtype.isnative else depth.astype(depth.dtype.newbyteorder("="))


def _read_compressed(image: CompressedImage, max_pixels: int) -> _Header:
    match = _FORMAT.fullmatch(image.format)
    if match is None:
        raise _unknown_format(image.format)
    encoding, codec = match[1], match[2] or "png"  # which old senders leave out
    _sample_bytes(encoding)
    data = _bytes_of(image)
    if data.nbytes <= _CONFIG.size:
        raise ImageError(f"compressed depth image of {data.nbytes} bytes", kind="empty data")
    _, a, b = _CONFIG.unpack_from(data)
    if encoding == "32FC1" and not (np.isfinite((a, b)).all() and a > 0):
        raise broken(f"depth parameters {a:g} and {b:g}")
    data = data[_CONFIG.size :]
    if codec == "png":
        header = read_header(data)
        if header.format != "png":
            raise broken(f"{header.format} data, expected PNG as its format says")
        width, height = header.width, header.height
    elif codec == "rvl":
        if data.nbytes < _SIZE.size:
            raise broken(f"{data.nbytes} bytes of RVL, too few for width and height")
        width, height = _SIZE.unpack_from(data)
        data = data[_SIZE.size :]
    else:
        raise _unknown_format(image.format)
    most = max_pixels if codec == "png" else min(max_pixels, MAX_RVL_PIXELS)
    _check_size(width, height, most)
    return _Header(encoding, codec, width, height, (a, b), data)


def _unknown_format(text: str) -> ImageError:
    return ImageError(
        f"format {text[:60]!r} is not known, expected such as '16UC1; compressedDepth png' (or rvl)"
        "; use the topic .../compressedDepth of a depth camera",
        kind="unknown compressed format",
    )


def _decode_png(header: _Header) -> np.ndarray:
    content = bytes(header.data)
    what = f"PNG of {header.width}x{header.height} pixels, {len(content)} bytes"
    if fault := find_fault(content, read_header(header.data)):
        raise broken(f"{what}, {fault}")
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise broken(f"{what}: {error.err}") from error
    if pixels is None or pixels.shape != (header.height, header.width):
        raise broken(f"{what}, cannot be decoded as one channel")
    if pixels.dtype != np.uint16:
        raise broken(f"{what}, has samples of {pixels.dtype}, expected 16 bits")
    return np.asarray(pixels)


def _decode_rvl(header: _Header) -> np.ndarray:
    """Runs of zeros and of other values in turn; these as differences to the one before."""
    pixels = np.zeros(header.width * header.height, np.uint16)
    # No pixel takes more than 4 bytes, its share of the runs included.
    numbers = _read_numbers(header.data[: 4 * (len(pixels) + 4)])
    is_value = np.zeros(len(pixels), bool)
    is_difference = np.zeros(len(numbers), bool)
    pixel = number = 0
    while pixel < len(pixels):
        runs = numbers[number : number + 2].tolist()
        zeros, values = runs if len(runs) == 2 else (0, 0)
        end = pixel + zeros + values
        # Only the first run of zeros and the last of values may be empty.
        empty = (zeros == 0 and pixel > 0) or (values == 0 and end < len(pixels))
        if empty or not pixel < end <= len(pixels):
            raise broken(f"RVL of {header.width}x{header.height} pixels goes wrong at {pixel}")
        is_difference[number + 2 : number + 2 + values] = True
        is_value[pixel + zeros : end] = True
        number += 2 + values
        pixel = end
    folded = numbers[is_difference]
    if len(folded) != np.count_nonzero(is_value):
        raise broken(f"RVL of {header.width}x{header.height} pixels ends too early")
    # Signed numbers were folded: 0, -1, 1, -2 are 0, 1, 2, 3. Sums wrap around at 16 bits.
    signed = (folded >> 1) ^ -(folded & 1)
    pixels[is_value] = np.cumsum(signed).astype(np.uint16)
    return pixels.reshape(header.height, header.width)


def _read_numbers(data: memoryview) -> np.ndarray:
    """All numbers of a code of half bytes: 3 bits, lowest first, and one that says there are more.

    Eight of them make a little-endian word, the first one in its highest bits.
    """
    words = np.frombuffer(data[: len(data) // 4 * 4], "<u4")
    nibbles = (words[:, np.newaxis] >> np.arange(28, -4, -4, dtype=np.uint32)) & 15
    nibbles = nibbles.astype(np.int64).ravel()
    ends = np.flatnonzero(nibbles < 8)
    if not len(ends):
        raise broken("RVL without numbers")
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() >= _LONGEST_NUMBER:
        raise broken("RVL with an endless number")
    place = np.arange(ends[-1] + 1) - np.repeat(starts, ends - starts + 1)
    return np.add.reduceat((nibbles[: ends[-1] + 1] & 7) << (3 * place), starts)


def _to_metres(pixels: np.ndarray, a: float, b: float) -> np.ndarray:
    with np.errstate(divide="ignore"):
        metres = np.float32(a) / (pixels.astype(np.float32) - np.float32(b))
    # Nothing lies behind the camera: p <= B is as unknown as 0.
    return np.where((pixels > 0) & (metres > 0), metres, np.float32(np.nan))
