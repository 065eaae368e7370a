"""Width and height of a compressed image, read from its first bytes without decoding it.

A compressed image of a few kilobytes may claim a gigapixel; its header is read and judged before a
decoder gets to see it. The effort is bounded whatever the bytes say. Needs nothing but Python.

References: ITU-T T.81 (JPEG), RFC 2083 (PNG), RFC 9649 (WebP), TIFF 6.0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from pose_node.errors import ImageError

KNOWN_FORMATS = ("jpeg", "png", "webp", "bmp", "tiff")
"""The compressed formats that are read, as in `CompressedHeader.format`."""

_MAX_JPEG_SEGMENTS = 1024
_MAX_JPEG_SCANS = 100  # progressive files have some ten
_MAX_TIFF_ENTRIES = 1024

# Start-of-frame markers; C4, C8 and CC lie in their range and mean something else.
_JPEG_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_MARKERS_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_TIFF_NUMBERS = {3: "H", 4: "I"}


@dataclass(frozen=True)
class CompressedHeader:
    """What the first bytes of a compressed image say.

    Attributes:
        format: one of `KNOWN_FORMATS`.
        width: pixels, as stored: no orientation is applied. At least 1.
        height: pixels, as stored. At least 1.
        end: how far the header was read, in bytes.
    """

    format: Literal["jpeg", "png", "webp", "bmp", "tiff"]
    width: int
    height: int
    end: int


def read_header(data: memoryview) -> CompressedHeader:
    """Read format and size from the start of a compressed image.

    Args:
        data: the compressed bytes, format "B".

    Raises:
        ImageError: the bytes are none of `KNOWN_FORMATS` (kind "unknown compressed format"), or
            end or go wrong before the size (kind "broken compressed image").
    """
    start = bytes(data[:12])
    try:
        if start.startswith(b"\xff\xd8\xff"):
            header = _read_jpeg(data)
        elif start.startswith(_PNG_SIGNATURE):
            header = _read_png(data)
        elif start[:4] == b"RIFF" and start[8:] == b"WEBP":
            header = _read_webp(data)
        elif start.startswith((b"II*\0", b"MM\0*")):
            header = _read_tiff(data)
        elif start.startswith(b"BM"):
            header = _read_bmp(data)
        else:
            raise ImageError(
                f"the {len(data)} bytes are no image format known here, expected one of "
                f"{', '.join(KNOWN_FORMATS)}; they start with {start!r}",
                kind="unknown compressed format",
            )
    except struct.error as error:
        raise broken(f"{len(data)} bytes end within the header") from error
    if header.width < 1 or header.height < 1:
        raise broken(f"its {header.format} header claims {header.width}x{header.height} pixels")
    return header


def find_fault(data: bytes, header: CompressedHeader) -> str:
    """What is wrong with the bytes after the header, as far as that is told without decoding them.

    An end that is missing: some decoders fill the rest with grey, silently. And scans without end:
    a JPEG may visit all of its pixels again and again, for a few bytes each time. Trailing bytes
    after the end are allowed, as some cameras pad their buffers. BMP and TIFF have no end mark;
    their decoders notice by themselves.

    Args:
        data: the compressed bytes.
        header: as `read_header` gives it.

    Returns:
        The fault in words, "" if there is none.
    """
    complete = True
    if header.format == "jpeg":
        # Entropy-coded data holds neither FF DA nor FF D9, and thumbnails lie before `end`.
        if data.count(b"\xff\xda", header.end) > _MAX_JPEG_SCANS:
            return f"has more than {_MAX_JPEG_SCANS} scans"
        complete = data.rfind(b"\xff\xd9", header.end) >= 0
    elif header.format == "png":
        complete = data.rfind(_PNG_END, header.end) >= 0
    elif header.format == "webp":
        (riff_size,) = struct.unpack_from("<I", data, 4)
        complete = len(data) >= 8 + int(riff_size)
    return "" if complete else "ends before the image does"


def broken(reason: str) -> ImageError:
    """The error for a compressed image that is damaged or cut off."""
    return ImageError(f"broken compressed image: {reason}", kind="broken compressed image")


def _read_jpeg(data: memoryview) -> CompressedHeader:
    position = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        prefix, marker = struct.unpack_from(">BB", data, position)
        if prefix != 0xFF:
            break
        if marker == 0xFF:  # A fill byte before the marker.
            position += 1
            continue
        position += 2
        if marker in _JPEG_MARKERS_WITHOUT_LENGTH:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        if marker in _JPEG_FRAME_MARKERS:
            _, height, width = struct.unpack_from(">BHH", data, position + 2)
            return CompressedHeader("jpeg", width, height, position + length)
        if marker in (0xD9, 0xDA) or length < 2:
            break
        position += length
    raise broken("a JPEG without a frame header")


def _read_png(data: memoryview) -> CompressedHeader:
    length, name, width, height = struct.unpack_from(">I4sII", data, 8)
    if name != b"IHDR" or length != 13:
        raise broken("a PNG that does not start with an IHDR chunk")
    return CompressedHeader("png", width, height, 33)


def _read_webp(data: memoryview) -> CompressedHeader:
    chunk = bytes(data[12:16])
    if chunk == b"VP8X":
        width_low, width_high, height_low, height_high = struct.unpack_from("<HBHB", data, 24)
        width = (width_low | width_high << 16) + 1
        return CompressedHeader("webp", width, (height_low | height_high << 16) + 1, 30)
    if chunk == b"VP8L":
        _, bits = struct.unpack_from("<BI", data, 20)
        return CompressedHeader("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, 25)
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return CompressedHeader("webp", width & 0x3FFF, height & 0x3FFF, 30)
    raise broken(f"a WebP with an unknown first chunk {chunk!r}")


def _read_bmp(data: memoryview) -> CompressedHeader:
    (header_size,) = struct.unpack_from("<I", data, 14)
    if header_size == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    # A negative height means that the rows go from top to bottom.
    return CompressedHeader("bmp", width, abs(height), 26)


def _read_tiff(data: memoryview) -> CompressedHeader:
    order = "<" if data[0] == ord("I") else ">"
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, directory)
    size: dict[int, int] = {}
    for index in range(min(count, _MAX_TIFF_ENTRIES)):
        entry = directory + 2 + 12 * index
        tag, value_type, values = struct.unpack_from(order + "HHI", data, entry)
        if tag not in (256, 257):
            continue
        # Decoders differ in which of two they believe, and larger types lie somewhere else.
        if tag in size or value_type not in _TIFF_NUMBERS or values != 1:
            raise broken("a TIFF whose width or height is not one number of 16 or 32 bits")
        (size[tag],) = struct.unpack_from(order + _TIFF_NUMBERS[value_type], data, entry + 8)
    if len(size) < 2:
        raise broken("a TIFF whose first directory gives no width and height")
    return CompressedHeader("tiff", size[256], size[257], 8)
