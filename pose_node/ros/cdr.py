"""Large and frequent messages as the bytes that travel, without a message object in between.

rclpy turns the fields of a message one by one into Python objects and back: one more copy of the
pixels of an image, and over half a millisecond for twenty people. Here the fields of an Image or
CompressedImage are read where they lie in the bytes of a raw subscription, and a PersonPoseArray,
Image or CompressedImage is written as bytes for `Publisher.publish`.

The format is plain CDR, version 1 ("XCDR1"; OMG DDSI-RTPS 2.5, 10, and DDS-XTypes 1.3, 7.4.1): an
encapsulation header of four bytes, the second of which says the byte order; then the fields, each
aligned to its own size, counted from the end of that header. A string is its length with the
terminating zero, then its bytes; a sequence is its length, then its elements. Needs no ROS.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from pose_node import imaging
from pose_node.errors import ImageError
from pose_node.poses import Poses

JPEG_FORMAT = "bgr8; jpeg compressed bgr8"
"""What a sensor_msgs/CompressedImage says of a JPEG that was a bgr8 image."""

LONGEST_FRAME_ID = 1024
"""Characters; names of frames are some ten."""

_MOST_DOUBLES = 100  # distortion models have up to 14
_ENCAPSULATION_BYTES = 4
# Version 2 of plain CDR differs in the alignment of fields of eight bytes. Other formats
# are refused, not left to rclpy: that of Kilted can be crashed by four bytes of them.
_BYTE_ORDERS = {b"\x00\x00": ">", b"\x00\x01": "<", b"\x00\x06": ">", b"\x00\x07": "<"}
_LITTLE_ENDIAN = b"\x00\x01\x00\x00"
_IDS = np.iinfo(np.int32)


class HeaderFields(NamedTuple):
    """The fields of a std_msgs/Header.

    Attributes:
        sec: seconds of the stamp, -2^31 to 2^31 - 1.
        nanosec: nanoseconds of the stamp, 0 to 2^32 - 1.
        frame_id: coordinate frame.
    """

    sec: int
    nanosec: int
    frame_id: str


def read_image(data: bytes) -> tuple[HeaderFields, imaging.RawImage]:
    """Read a sensor_msgs/Image.

    Args:
        data: of a raw subscription: plain CDR, of either byte order.

    Returns:
        Its header, and its image whose pixels are a view of `data`, not checked yet.

    Raises:
        ImageError: the bytes are no such message (kind "malformed message").
    """
    fields = _Reader(data, "Image")
    header = fields.header()
    height, width = fields.uint32("height"), fields.uint32("width")
    encoding = fields.string("encoding")
    is_bigendian = fields.uint8("is_bigendian") != 0
    step = fields.uint32("step")
    return header, imaging.RawImage(
        encoding, width, height, step, fields.octets("data"), is_bigendian
    )


def read_compressed_image(data: bytes) -> tuple[HeaderFields, imaging.CompressedImage]:
    """Read a sensor_msgs/CompressedImage; arguments, results and errors as of `read_image`."""
    fields = _Reader(data, "CompressedImage")
    header = fields.header()
    return header, imaging.CompressedImage(fields.string("format"), fields.octets("data"))


class CameraInfoFields(NamedTuple):
    """The fields of a sensor_msgs/CameraInfo, in its order and under its names.

    Attributes:
        roi: x_offset, y_offset, height and width of the sensor_msgs/RegionOfInterest.
    """

    header: HeaderFields
    height: int
    width: int
    distortion_model: str
    d: tuple[float, ...]
    k: tuple[float, ...]
    r: tuple[float, ...]
    p: tuple[float, ...]
    binning_x: int
    binning_y: int
    roi: tuple[int, int, int, int]
    do_rectify: bool


def read_camera_info(data: bytes) -> CameraInfoFields:
    """Read a sensor_msgs/CameraInfo; arguments and errors as of `read_image`."""
    fields = _Reader(data, "CameraInfo")
    return CameraInfoFields(
        fields.header(),
        fields.uint32("height"),
        fields.uint32("width"),
        fields.string("distortion_model"),
        fields.doubles("d", fields.uint32("d")),
        fields.doubles("k", 9),
        fields.doubles("r", 9),
        fields.doubles("p", 12),
        fields.uint32("binning_x"),
        fields.uint32("binning_y"),
        (
            fields.uint32("roi.x_offset"),
            fields.uint32("roi.y_offset"),
            fields.uint32("roi.height"),
            fields.uint32("roi.width"),
        ),
        fields.uint8("roi.do_rectify") != 0,
    )


def write_image(header: HeaderFields, image_bgr: np.ndarray) -> bytes:
    """Write a sensor_msgs/Image of encoding bgr8, its pixels copied once.

    Args:
        header: of the image that this one was made of.
        image_bgr: (H, W, 3) uint8, blue, green, red; rows may be padded.
    """
    height, width = image_bgr.shape[:2]
    head = _start(header)
    head += struct.pack("<II", height, width)
    _append_string(head, "bgr8")
    head += b"\x00"  # is_bigendian
    _align(head)
    head += struct.pack("<II", 3 * width, 3 * width * height)
    return b"".join((head, np.ascontiguousarray(image_bgr).data))


def write_compressed_image(header: HeaderFields, image_format: str, content: bytes) -> bytes:
    """Write a sensor_msgs/CompressedImage.

    Args:
        header: of the image that this one was made of.
        image_format: what it is called, such as `JPEG_FORMAT`.
        content: the whole file.
    """
    head = _start(header)
    _append_string(head, image_format)
    _align(head)
    head += struct.pack("<I", len(content))
    return b"".join((head, content))


def write_pose_array(
    header: HeaderFields, poses: Poses, *, width: int, height: int, skeleton: str
) -> bytes:
    """Write a pose_node/PersonPoseArray.

    Args:
        header: of the image.
        poses: in pixels of the image.
        width, height: of the image, pixels.
        skeleton: name of the skeleton.

    Raises:
        ValueError: an id does not fit into the 32 bits of `track_id`.
    """
    if len(poses) and not _IDS.min <= poses.ids.min() <= poses.ids.max() <= _IDS.max:
        raise ValueError(f"ids must fit into 32 bits, got {poses.ids.tolist()}")
    # Every field of a person has four bytes: people follow each other without gaps.
    people = np.empty(len(poses), _person_type(poses.num_keypoints))
    people["track_id"] = poses.ids
    people["score"] = poses.scores
    people["bbox"] = poses.boxes_xyxy
    people["keypoint_count"] = poses.num_keypoints
    people["keypoints"] = poses.keypoints
    head = _start(header)
    head += struct.pack("<II", width, height)
    _append_string(head, skeleton)
    _align(head)
    head += struct.pack("<I", len(poses))
    return b"".join((head, people.tobytes()))


@lru_cache(maxsize=16)
def _person_type(num_keypoints: int) -> np.dtype[np.void]:
    """A pose_node/PersonPose as it lies in the bytes."""
    return np.dtype(
        [
            ("track_id", "<i4"),
            ("score", "<f4"),
            ("bbox", "<f4", (4,)),
            ("keypoint_count", "<u4"),
            ("keypoints", "<f4", (num_keypoints, 3)),
        ]
    )


def _start(header: HeaderFields) -> bytearray:
    """The encapsulation header and a std_msgs/Header, up to where 32 bits may follow."""
    head = bytearray(_LITTLE_ENDIAN)
    head += struct.pack("<iI", header.sec, header.nanosec)
    _append_string(head, header.frame_id)
    _align(head)
    return head


def _append_string(head: bytearray, text: str) -> None:
    content = text.encode()
    _align(head)
    head += struct.pack("<I", len(content) + 1)
    head += content
    head += b"\x00"


def _align(head: bytearray) -> None:
    """Pad to a multiple of four bytes, which the encapsulation header does not change."""
    head += bytes(-len(head) % 4)


class _Reader:
    """Reads the fields of a message in their order. Whatever the bytes claim, none leaves them."""

    def __init__(self, data: bytes, message: str) -> None:
        order = _BYTE_ORDERS.get(data[:2])
        self._data = data
        self._message = message
        self._position = _ENCAPSULATION_BYTES
        if order is None or len(data) < _ENCAPSULATION_BYTES:
            raise self._malformed(f"an encapsulation header {data[:4].hex(' ')}, not plain CDR")
        self._order = order
        self._align_doubles = 8 if data[1] < 6 else 4  # of version 1, or 2
        self._uint32 = struct.Struct(f"{order}I")
        self._stamp = struct.Struct(f"{order}iI")

    def header(self) -> HeaderFields:
        start = self._take(8, "header.stamp", alignment=4)
        sec, nanosec = self._stamp.unpack_from(self._data, start)
        frame_id = self.string("header.frame_id")
        if len(frame_id) > LONGEST_FRAME_ID:  # it goes into every message that answers this one
            raise self._malformed(
                f"header.frame_id of {len(frame_id)} characters, expected at most "
                f"{LONGEST_FRAME_ID}"
            )
        return HeaderFields(sec, nanosec, frame_id)

    def uint8(self, name: str) -> int:
        return self._data[self._take(1, name)]

    def uint32(self, name: str) -> int:
        (value,) = self._uint32.unpack_from(self._data, self._take(4, name, alignment=4))
        return int(value)

    def string(self, name: str) -> str:
        length = self.uint32(name)
        if length == 0:  # Some middlewares leave the terminator of an empty string out.
            return ""
        start = self._take(length, name)
        content = self._data[start : start + length]
        if content.find(0) != length - 1:
            raise self._malformed(f"{name} of {length} bytes without a zero at its end alone")
        try:
            return content[:-1].decode()
        except UnicodeDecodeError as error:
            raise self._malformed(f"{name} that is not UTF-8") from error

    def doubles(self, name: str, count: int) -> tuple[float, ...]:
        if count == 0:
            return ()
        if count > _MOST_DOUBLES:
            raise self._malformed(f"{name} of {count} numbers, expected at most {_MOST_DOUBLES}")
        start = self._take(8 * count, name, alignment=self._align_doubles)
        return struct.unpack_from(f"{self._order}{count}d", self._data, start)

    def octets(self, name: str) -> memoryview:
        length = self.uint32(name)
        start = self._take(length, name)
        return memoryview(self._data)[start : start + length]

    def _take(self, count: int, name: str, *, alignment: int = 1) -> int:
        """Where the next `count` bytes are, after alignment."""
        start = self._position + (_ENCAPSULATION_BYTES - self._position) % alignment
        end = start + count
        if end > len(self._data):
            raise self._malformed(f"{name} would end at byte {end} of {len(self._data)}")
        self._position = end
        return start

    def _malformed(self, reason: str) -> ImageError:
        return ImageError(
            f"the bytes are no sensor_msgs/{self._message}: {reason}", kind="malformed message"
        )
