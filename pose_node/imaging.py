"""Image bytes to arrays: raw encodings of ROS images, compressed images, and JPEG back.

The common encodings become views on the message's bytes, without a copy; others are converted to
BGR by OpenCV. What a message claims is judged before anything is allocated or decoded.

Encoding names are those of sensor_msgs/image_encodings.hpp of every ROS 2 distribution: one layout
may have several. No ROS is needed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from pose_node.errors import ImageError
from pose_node.image_headers import CompressedHeader, broken, find_fault, read_header
from pose_node.poses import ChannelOrder

if TYPE_CHECKING:
    from typing_extensions import Buffer

DEFAULT_MAX_PIXELS = 50_000_000
"""Larger images are refused unless the caller says otherwise: more than any camera gives."""


@dataclass(frozen=True)
class RawImage:
    """An uncompressed image as it came, not yet checked; field for field a sensor_msgs/Image.

    Attributes:
        encoding: how the pixels are stored, for example "bgr8"; see `KNOWN_ENCODINGS`.
        width: pixels in a row.
        height: rows of the image.
        step: bytes from one row to the next, padding included.
        data: bytes, bytearray, memoryview, array.array or contiguous array, at least step * height
            bytes (1.5 times as many for nv12 and nv21, 3 times for nv24); more is ignored.
        is_bigendian: byte order of 16-bit samples.
    """

    encoding: str
    width: int
    height: int
    step: int
    data: Buffer
    is_bigendian: bool = False


@dataclass(frozen=True)
class CompressedImage:
    """A compressed image as it came, not yet checked.

    Attributes:
        format: what the sender calls it, for example "bgr8; jpeg compressed bgr8". Only a hint: the
            bytes decide.
        data: the whole file: JPEG, PNG, WebP, BMP or TIFF.
    """

    format: str
    data: Buffer


@dataclass(frozen=True)
class _Layout:
    """How an encoding stores its pixels and what makes three channels of it.

    `conversion` is None where the bytes are three channels already. `half_rows`: rows of `step`
    bytes for every two rows of the image, more than 2 where planes follow each other.
    """

    channels: int
    conversion: int | None = None
    order: ChannelOrder = "bgr"
    sample_bytes: int = 1
    half_rows: int = 2
    multiple: tuple[int, int] = (1, 1)
    smallest: int = 1


_COLOUR = {
    "bgr8": _Layout(3),
    "rgb8": _Layout(3, order="rgb"),
    "bgra8": _Layout(4, cv2.COLOR_BGRA2BGR),
    "rgba8": _Layout(4, cv2.COLOR_RGBA2BGR),
    "8UC1": _Layout(1, cv2.COLOR_GRAY2BGR),
    "8UC3": _Layout(3),
    "8UC4": _Layout(4, cv2.COLOR_BGRA2BGR),
    "mono8": _Layout(1, cv2.COLOR_GRAY2BGR),
    "bgr16": _Layout(3, sample_bytes=2),
    "rgb16": _Layout(3, order="rgb", sample_bytes=2),
    "mono16": _Layout(1, cv2.COLOR_GRAY2BGR, sample_bytes=2),
}
# ROS names a mosaic by its first two rows, OpenCV's classic constants by the second and third
# pixel of the second and third row: rggb is BG. Demosaicing needs 3 x 3 pixels.
_BAYER_CONVERSIONS = {
    "bayer_rggb": cv2.COLOR_BayerBG2BGR,
    "bayer_bggr": cv2.COLOR_BayerRG2BGR,
    "bayer_gbrg": cv2.COLOR_BayerGR2BGR,
    "bayer_grbg": cv2.COLOR_BayerGB2BGR,
}
_BAYER = {
    f"{name}{8 * size}": _Layout(1, conversion, sample_bytes=size, smallest=3)
    for name, conversion in _BAYER_CONVERSIONS.items()
    for size in (1, 2)
}
_UYVY = _Layout(2, cv2.COLOR_YUV2BGR_UYVY, multiple=(2, 1))
_YUYV = _Layout(2, cv2.COLOR_YUV2BGR_YUY2, multiple=(2, 1))
_YUV = {
    "uyvy": _UYVY,
    "yuv422": _UYVY,
    "yuyv": _YUYV,
    "yuv422_yuy2": _YUYV,
    "nv12": _Layout(1, cv2.COLOR_YUV2BGR_NV12, half_rows=3, multiple=(2, 2)),
    "nv21": _Layout(1, cv2.COLOR_YUV2BGR_NV21, half_rows=3, multiple=(2, 2)),
    "nv24": _Layout(1, cv2.COLOR_YUV2BGR_NV12, half_rows=6),
}
_LAYOUTS = {**_COLOUR, **_BAYER, **_YUV}

_REDUCED_COLOUR = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}

KNOWN_ENCODINGS: tuple[str, ...] = tuple(_LAYOUTS)
"""Raw encodings that are read without cv_bridge."""


def check(image: RawImage | CompressedImage, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
    """Judge an image at the door, by its claims alone: nothing is decoded, allocated or copied.

    A compressed image that passes may still turn out broken when it is decoded.

    Args:
        image: the image as it came.
        max_pixels: largest width * height to accept.

    Raises:
        ImageError: the image cannot be used; `kind` is "wrong data type", "zero area",
            "absurd size", "bad size", "step too small", "data too short", "unknown encoding",
            "empty data", "depth image", "unknown compressed format" or "broken compressed image".
    """
    if isinstance(image, RawImage):
        _check_raw(image, max_pixels)
    else:
        _check_compressed(image, max_pixels)


def reducible_size(image: RawImage | CompressedImage) -> tuple[int, int] | None:
    """Width and height of an image that `to_array` can reduce, which is a JPEG; None of others.

    Raises:
        ImageError: as `check` of a compressed image, without its limit of pixels.
    """
    if isinstance(image, RawImage):
        return None
    header = read_header(_bytes_of(image.data))
    return (header.width, header.height) if header.format == "jpeg" else None


def to_array(
    image: RawImage | CompressedImage,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    reduction: int = 1,
) -> tuple[np.ndarray, ChannelOrder]:
    """Make an array of an image, after `check`.

    Values of 16 bits keep their upper 8. Luma and chroma are read as BT.601, limited range, as
    OpenCV does. A compressed image keeps its pixel grid: no EXIF orientation is applied.

    Args:
        image: the image as it came.
        max_pixels: largest width * height to accept.
        reduction: 1, 2, 4 or 8: decode a JPEG so many times smaller in both directions, rounded up,
            which is faster than to scale it afterwards. Only for an image with `reducible_size`.

    Returns:
        (H, W, 3) uint8 and its channel order. For bgr8, rgb8 and 8UC3 a read-only view of
        `image.data`, rows padded as they came; a new array in order "bgr" for most others.

    Raises:
        ImageError: as `check`; also kind "broken compressed image" or "cannot be converted".
    """
    if isinstance(image, RawImage):
        _check_raw(image, max_pixels)
        layout = _LAYOUTS.get(image.encoding)
        if layout is None:
            return _convert_by_bridge(image), "bgr"
        return _convert(image, layout), layout.order
    header = _check_compressed(image, max_pixels)
    flags = cv2.IMREAD_IGNORE_ORIENTATION
    return _decode(_bytes_of(image.data), header, flags, reduction), "bgr"


def decode_file(data: Buffer, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> np.ndarray:
    """Decode the content of an image file, upright: its EXIF orientation is applied.

    Args:
        data: the whole file.
        max_pixels: largest width * height to accept.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        ImageError: as for a compressed image in `to_array`.
    """
    view = _bytes_of(data)
    return _decode(view, _check_file(view, max_pixels), 0)


def encode_jpeg(image_bgr: np.ndarray, quality: int = 90) -> bytes:
    """Encode as JPEG.

    Args:
        image_bgr: (H, W, 3) uint8, BGR; rows may be padded.
        quality: 1 (small) to 100 (good).

    Raises:
        ImageError: OpenCV cannot encode it, for example because a side is over 65500 pixels.
    """
    try:
        done, buffer = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error as error:
        raise _not_convertible(f"image of shape {image_bgr.shape} to JPEG", error) from error
    if not done:
        raise _not_convertible(f"image of shape {image_bgr.shape} to JPEG", None)
    return buffer.tobytes()


def _check_raw(image: RawImage, max_pixels: int) -> None:
    size = f"{image.width}x{image.height}"
    if image.width < 1 or image.height < 1:
        raise ImageError(f"image of {size} pixels has no area", kind="zero area")
    if image.width * image.height > max_pixels:
        raise _too_large(image.width, image.height, max_pixels)
    layout = _LAYOUTS.get(image.encoding)
    if layout is None and _cv_bridge() is None:
        raise ImageError(
            f"encoding {_shorten(image.encoding)} is not known, expected one of "
            f"{', '.join(KNOWN_ENCODINGS)}; install cv_bridge for others",
            kind="unknown encoding",
        )
    layout = layout or _Layout(1)
    wide, high = layout.multiple
    too_small = min(image.width, image.height) < layout.smallest
    if image.width % wide or image.height % high or too_small:
        raise ImageError(
            f"{image.encoding} needs a width that is a multiple of {wide} and a height of {high}, "
            f"both at least {layout.smallest}, got {size}",
            kind="bad size",
        )
    row_bytes = image.width * layout.channels * layout.sample_bytes
    if image.step < row_bytes:
        raise ImageError(
            f"a row of {image.width} pixels {_shorten(image.encoding)} has {row_bytes} bytes, "
            f"got step {image.step}",
            kind="step too small",
        )
    needed = image.step * (image.height * layout.half_rows // 2)
    available = _bytes_of(image.data).nbytes
    if available < needed:
        raise ImageError(
            f"{size} {_shorten(image.encoding)} with step {image.step} needs {needed} bytes, "
            f"got {available}",
            kind="data too short",
        )


def _check_compressed(image: CompressedImage, max_pixels: int) -> CompressedHeader:
    if "compressedDepth" in image.format:
        raise ImageError(
            f"format {_shorten(image.format)} holds depth, expected a colour image; use the "
            "compressed topic of a colour camera",
            kind="depth image",
        )
    return _check_file(_bytes_of(image.data), max_pixels)


def _check_file(data: memoryview, max_pixels: int) -> CompressedHeader:
    if data.nbytes == 0:
        raise ImageError("compressed image without data", kind="empty data")
    header = read_header(data)
    if header.width * header.height > max_pixels:
        raise _too_large(header.width, header.height, max_pixels)
    return header


def _convert(image: RawImage, layout: _Layout) -> np.ndarray:
    """The three channels of an image that passed `check`."""
    rows = image.height * layout.half_rows // 2
    size = layout.sample_bytes
    samples = np.ndarray(
        (rows, image.width, layout.channels, size),
        np.uint8,
        buffer=_bytes_of(image.data),
        strides=(image.step, layout.channels * size, size, 1),
    )
    # The upper byte of 16 bits, which is a shift by 8; of 8 bits, the byte.
    samples = samples[..., 0 if image.is_bigendian else size - 1]
    samples.flags.writeable = False
    if image.encoding == "nv24":
        samples = _nv24_as_nv12(image)
    if layout.conversion is None:
        return samples if size == 1 else np.ascontiguousarray(samples)
    if layout.channels == 1:
        samples = samples[..., 0]
    try:
        converted: np.ndarray = cv2.cvtColor(samples, layout.conversion)
    except cv2.error as error:
        what = f"{image.width}x{image.height} {image.encoding}"
        raise _not_convertible(what, error) from error
    return converted[::2, ::2] if image.encoding == "nv24" else converted


def _nv24_as_nv12(image: RawImage) -> np.ndarray:
    """Double the luma of nv24, so that its full-size chroma is the half-size chroma of nv12.

    In nv24 the chroma plane has rows of two bytes per pixel, twice `step` apart. OpenCV has no
    conversion for it; nv12 of twice the size gives the same colours at every second pixel.
    """
    data = np.frombuffer(_bytes_of(image.data), np.uint8)
    luma_bytes = image.step * image.height
    luma = data[:luma_bytes].reshape(image.height, image.step)[:, : image.width]
    chroma = data[luma_bytes : 3 * luma_bytes].reshape(image.height, 2 * image.step)
    doubled = np.repeat(np.repeat(luma, 2, axis=0), 2, axis=1)
    return np.concatenate([doubled, chroma[:, : 2 * image.width]])[..., np.newaxis]


def _decode(
    data: memoryview, header: CompressedHeader, flags: int, reduction: int = 1
) -> np.ndarray:
    content = bytes(data)
    what = f"{header.format} of {header.width}x{header.height} pixels, {len(content)} bytes"
    if fault := find_fault(content, header):
        raise broken(f"{what}, {fault}")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), _REDUCED_COLOUR[reduction] | flags)
    except cv2.error as error:
        raise broken(f"{what}: {error.err}") from error
    # An orientation may exchange width and height.
    expected = {-(-header.height // reduction), -(-header.width // reduction)}
    if image is None or {*image.shape[:2]} != expected:
        raise broken(f"{what}, cannot be decoded")
    return image


@cache
def _cv_bridge() -> Any:
    """A CvBridge, or None where there is none that loads with this NumPy and OpenCV."""
    try:
        return import_module("cv_bridge").CvBridge()
    except (ImportError, AttributeError):
        return None


def _convert_by_bridge(image: RawImage) -> np.ndarray:
    # cv_bridge reads only attributes that RawImage has too, and raises its own TypeError.
    try:
        converted = _cv_bridge().imgmsg_to_cv2(image, desired_encoding="bgr8")
    except (TypeError, ValueError, ArithmeticError, RuntimeError, KeyError, cv2.error) as error:
        raise _not_convertible(f"encoding {_shorten(image.encoding)}", error) from error
    array = np.asarray(converted)
    if array.shape != (image.height, image.width, 3) or array.dtype != np.uint8:
        reason = ValueError(f"cv_bridge made {array.dtype} {array.shape} of it")
        raise _not_convertible(f"encoding {_shorten(image.encoding)}", reason)
    return array


def _bytes_of(data: Buffer) -> memoryview:
    try:
        return memoryview(data).cast("B")
    except (TypeError, ValueError) as error:
        raise ImageError(
            f"image data must be contiguous bytes, got {type(data).__name__}",
            kind="wrong data type",
        ) from error


def _too_large(width: int, height: int, max_pixels: int) -> ImageError:
    return ImageError(
        f"image claims {width}x{height} pixels, expected at most {max_pixels} in all",
        kind="absurd size",
    )


def _not_convertible(what: str, error: Exception | None) -> ImageError:
    return ImageError(f"cannot convert {what}: {error}", kind="cannot be converted")


def _shorten(text: str) -> str:
    """Quoted, and cut: a name in a message from elsewhere may be of any length."""
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
