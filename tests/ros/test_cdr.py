"""Messages as bytes: what rclpy writes is read, what is written is what rclpy writes."""

from __future__ import annotations

import math
import random
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")
pytest.importorskip("pose_node.msg", reason="messages missing: build the package first")

from builtin_interfaces.msg import Time
from pose_node.msg import PersonPoseArray
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header

from pose_node import Poses
from pose_node.errors import ImageError
from pose_node.ros import cdr, messages
from tests.conftest import make_poses

pytestmark = pytest.mark.ros

PLAIN = {"<": b"\0\1\0\0", ">": b"\0\0\0\0"}
# As rclpy hands it on: a C string.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
HEADERS = st.builds(
    cdr.HeaderFields,
    sec=st.integers(-(2**31), 2**31 - 1),
    nanosec=st.integers(0, 2**32 - 1),
    frame_id=TEXTS,
)
NUMBERS = st.integers(0, 2**32 - 1)
ORDERS = st.sampled_from("<>")
# On two busy cores the first example may take long.
MANY = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])


class Layout:
    """A message as the standard says, written slowly, field by field; and which bytes are padding.

    rclpy leaves whatever was in memory in its padding.
    """

    def __init__(self, order: str = "<") -> None:
        self.order = order
        self.data = bytearray(PLAIN[order])
        self.is_padding = [False] * 4

    def add(self, kind: str, value: Any) -> Layout:
        size = struct.calcsize(kind)
        while (len(self.data) - 4) % size:
            self.data.append(0)
            self.is_padding.append(True)
        self.data += struct.pack(self.order + kind, value)
        self.is_padding += [False] * size
        return self

    def add_bytes(self, content: bytes) -> Layout:
        self.add("I", len(content))
        self.data += content
        self.is_padding += [False] * len(content)
        return self

    def add_string(self, text: str) -> Layout:
        return self.add_bytes(text.encode() + b"\0")

    def add_header(self, header: cdr.HeaderFields) -> Layout:
        return self.add("i", header.sec).add("I", header.nanosec).add_string(header.frame_id)

    def without_padding(self, data: bytes) -> bytes:
        assert len(data) == len(self.data)
        pairs = zip(data, self.is_padding, strict=True)
        return bytes(0 if is_padding else byte for byte, is_padding in pairs)


def image_layout(
    header: cdr.HeaderFields,
    sizes: tuple[int, int, int],
    encoding: str,
    is_bigendian: int,
    data: bytes,
    order: str = "<",
) -> Layout:
    height, width, step = sizes
    layout = Layout(order).add_header(header).add("I", height).add("I", width)
    return layout.add_string(encoding).add("B", is_bigendian).add("I", step).add_bytes(data)


def compressed_layout(
    header: cdr.HeaderFields, image_format: str, data: bytes, order: str = "<"
) -> Layout:
    return Layout(order).add_header(header).add_string(image_format).add_bytes(data)


def pose_layout(header: cdr.HeaderFields, poses: Poses, skeleton: str) -> Layout:
    layout = Layout().add_header(header).add("I", 640).add("I", 480).add_string(skeleton)
    layout.add("I", len(poses))
    rows = zip(poses.ids, poses.scores, poses.boxes_xyxy, poses.keypoints, strict=True)
    for track_id, score, box, keypoints in rows:
        layout.add("i", track_id).add("f", score)
        for value in box:
            layout.add("f", value)
        layout.add("I", len(keypoints))
        for value in keypoints.ravel():
            layout.add("f", value)
    return layout


def ros_header(header: cdr.HeaderFields) -> Header:
    return Header(stamp=Time(sec=header.sec, nanosec=header.nanosec), frame_id=header.frame_id)


# Reading


@MANY
@given(HEADERS, st.tuples(NUMBERS, NUMBERS, NUMBERS), TEXTS, st.binary(max_size=9), ORDERS)
def test_image_is_read(
    header: cdr.HeaderFields,
    sizes: tuple[int, int, int],
    encoding: str,
    content: bytes,
    order: str,
) -> None:
    height, width, step = sizes
    message = Image(header=ros_header(header), encoding=encoding, is_bigendian=1, data=content)
    message.height, message.width, message.step = sizes
    layout = image_layout(header, sizes, encoding, 1, content)
    written = serialize_message(message)
    assert layout.without_padding(written) == layout.data
    other = bytes(image_layout(header, sizes, encoding, 1, content, order).data)
    for data in (written, other, other + b"trailing"):
        read_header, image = cdr.read_image(data)
        assert read_header == header
        assert (image.height, image.width, image.step) == (height, width, step)
        assert (image.encoding, image.is_bigendian) == (encoding, True)
        assert bytes(image.data) == content


@MANY
@given(HEADERS, TEXTS, st.binary(max_size=9), ORDERS)
def test_compressed_image_is_read(
    header: cdr.HeaderFields, image_format: str, content: bytes, order: str
) -> None:
    message = CompressedImage(header=ros_header(header), format=image_format, data=content)
    other = bytes(compressed_layout(header, image_format, content, order).data)
    for data in (serialize_message(message), other, other + b"trailing"):
        read_header, image = cdr.read_compressed_image(data)
        assert read_header == header
        assert (image.format, bytes(image.data)) == (image_format, content)


@pytest.mark.parametrize("order", "<>")
def test_pixels_are_a_view(order: str) -> None:
    header = cdr.HeaderFields(1, 2, "camera")
    data = bytes(image_layout(header, (2, 3, 9), "bgr8", 0, bytes(range(18)), order).data)
    _, image = cdr.read_image(data)
    view = memoryview(image.data)
    assert view.obj is data
    assert view.readonly


def test_strings_without_any_bytes_are_empty() -> None:
    layout = Layout().add("i", 1).add("I", 2).add("I", 0).add("I", 0).add_bytes(b"abc")
    header, image = cdr.read_compressed_image(bytes(layout.data))
    assert header == (1, 2, "")
    assert (image.format, bytes(image.data)) == ("", b"abc")


# What is refused

HEADER = cdr.HeaderFields(1_700_000_000, 5, "camera")
GOOD_IMAGE = bytes(image_layout(HEADER, (2, 3, 9), "bgr8", 0, bytes(18)).data)
GOOD_JPEG = bytes(compressed_layout(HEADER, "jpeg", b"\xff\xd8\xff\xd9").data)
READERS = [
    pytest.param(cdr.read_image, GOOD_IMAGE, id="raw"),
    pytest.param(cdr.read_compressed_image, GOOD_JPEG, id="compressed"),
]


def refused(read: Any, data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        read(data)
    assert caught.value.kind == "malformed message"
    return str(caught.value)


@pytest.mark.parametrize(("read", "good"), READERS)
def test_cut_off_anywhere(read: Any, good: bytes) -> None:
    read(good)
    for length in range(len(good)):
        refused(read, good[:length])


# Where a string or sequence has its length: of the frame, of the encoding or format, of the data.
LENGTHS = [
    *((cdr.read_image, GOOD_IMAGE, place) for place in (12, 32, 48)),
    *((cdr.read_compressed_image, GOOD_JPEG, place) for place in (12, 24, 36)),
]


@pytest.mark.parametrize(("read", "good", "place"), LENGTHS)
@pytest.mark.parametrize("lie", [2**32 - 1, 2**31, 2**31 - 1, 0x0100_0000, 1000])
def test_lengths_that_lie(read: Any, good: bytes, place: int, lie: int) -> None:
    data = bytearray(good)
    assert struct.unpack_from("<I", data, place)[0] < 50
    struct.pack_into("<I", data, place, lie)
    assert "would end at byte" in refused(read, bytes(data))


@pytest.mark.parametrize("text", [b"bgr8", b"bg\0r8\0", b"\0\0"])
def test_strings_that_do_not_end_with_their_only_zero(text: bytes) -> None:
    layout = Layout().add_header(HEADER).add("I", 2).add("I", 3).add_bytes(text)
    layout.add("B", 0).add("I", 9).add_bytes(bytes(18))
    assert "encoding of" in refused(cdr.read_image, bytes(layout.data))


@pytest.mark.parametrize("place", ["frame", "format"])
def test_strings_that_are_not_utf_8(place: str) -> None:
    latin = "böse".encode("latin-1") + b"\0"
    layout = Layout().add("i", 1).add("I", 2)
    layout.add_bytes(latin if place == "frame" else b"camera\0")
    layout.add_bytes(latin if place == "format" else b"jpeg\0").add_bytes(b"abc")
    assert "not UTF-8" in refused(cdr.read_compressed_image, bytes(layout.data))


@pytest.mark.parametrize("start", [b"", b"\0", b"\0\1\0", b"\0\2\0\0", b"\0\x09\0\0", b"\1\1\0\0"])
def test_no_plain_cdr(start: bytes) -> None:
    assert "encapsulation" in refused(cdr.read_image, start + GOOD_IMAGE[4:] * (len(start) > 3))


def test_names_of_frames_are_short() -> None:
    """They go into everything that is published about the image."""
    message = any_camera_info()
    message.header.frame_id = "x" * cdr.LONGEST_FRAME_ID
    assert cdr.read_camera_info(serialize_message(message)).header.frame_id[-1] == "x"
    message.header.frame_id += "x"
    with pytest.raises(ImageError, match=r"frame_id of 1025 characters, expected at most 1024"):
        cdr.read_camera_info(serialize_message(message))


def test_distortion_has_few_numbers() -> None:
    message = any_camera_info()
    message.d = [0.5] * 100
    assert cdr.read_camera_info(serialize_message(message)).d == (0.5,) * 100
    message.d = [0.5] * 101
    with pytest.raises(ImageError, match=r"d of 101 numbers, expected at most 100"):
        cdr.read_camera_info(serialize_message(message))


@pytest.mark.parametrize(("start", "order"), [(b"\0\6\0\0", ">"), (b"\0\7\0\0", "<")])
def test_version_2_is_the_same_for_these_messages(start: bytes, order: str) -> None:
    layout = compressed_layout(HEADER, "png", b"abc", order)
    header, image = cdr.read_compressed_image(start + layout.data[4:])
    assert (header, image.format, bytes(image.data)) == (HEADER, "png", b"abc")


@pytest.mark.parametrize(("read", "good"), READERS)
def test_mutated_bytes_are_read_or_refused(read: Any, good: bytes) -> None:
    dice = random.Random(3)
    outcomes, kinds = {"read": 0, "refused": 0}, set()
    for _ in range(5000):
        data = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            data[dice.randrange(len(data))] = dice.choice((0, 1, 0x7F, 0xFF, dice.randrange(256)))
        try:
            header, image = read(bytes(data))
        except ImageError as error:
            kinds.add(error.kind)
            outcomes["refused"] += 1
        else:
            assert memoryview(image.data).nbytes <= len(good)
            ros_header(header)  # its numbers fit into a message
            outcomes["read"] += 1
    assert min(outcomes.values()) > 100, outcomes
    assert kinds == {"malformed message"}


# Writing


@MANY
@given(HEADERS, st.integers(1, 3), st.integers(1, 5), st.booleans())
def test_image_is_written_as_rclpy_does(
    header: cdr.HeaderFields, height: int, width: int, padded: bool
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width + 2, 3), np.uint8)
    picture = pixels[:, :width] if padded else np.ascontiguousarray(pixels[:, :width])
    layout = image_layout(header, (height, width, 3 * width), "bgr8", 0, picture.tobytes())
    data = cdr.write_image(header, picture)
    assert data == layout.data
    message = messages.to_image(ros_header(header), picture)
    assert layout.without_padding(serialize_message(message)) == data
    assert deserialize_message(data, Image) == message
    assert bytes(cdr.read_image(data)[1].data) == picture.tobytes()


@MANY
@given(HEADERS, TEXTS, st.binary(max_size=9))
def test_compressed_image_is_written_as_rclpy_does(
    header: cdr.HeaderFields, image_format: str, content: bytes
) -> None:
    layout = compressed_layout(header, image_format, content)
    data = cdr.write_compressed_image(header, image_format, content)
    assert data == layout.data
    message = CompressedImage(header=ros_header(header), format=image_format, data=content)
    assert layout.without_padding(serialize_message(message)) == data
    assert deserialize_message(data, CompressedImage) == message


@MANY
@given(HEADERS, TEXTS, st.integers(0, 50), st.integers(0, 133), st.integers(0, 9))
def test_people_are_written_as_rclpy_does(
    header: cdr.HeaderFields, skeleton: str, count: int, num_keypoints: int, seed: int
) -> None:
    poses = make_poses(count % (7 if seed else 51), num_keypoints=num_keypoints, seed=seed)
    data = cdr.write_pose_array(header, poses, width=640, height=480, skeleton=skeleton)
    message = messages.to_pose_array(
        ros_header(header), poses, width=640, height=480, skeleton=skeleton
    )
    layout = pose_layout(header, poses, skeleton)
    assert data == layout.data
    assert layout.without_padding(serialize_message(message)) == data
    assert deserialize_message(data, PersonPoseArray) == message


def test_values_that_are_not_usual() -> None:
    poses = Poses.from_arrays(
        [[-1e30, 3e38, np.inf, -np.inf]] * 2,
        [0, 1],
        [[[np.nan, -0.0, 1e-45]]] * 2,
        [-(2**31), 2**31 - 1],
    )
    data = cdr.write_pose_array(HEADER, poses, width=640, height=480, skeleton="")
    assert data == pose_layout(HEADER, poses, "").data
    again = messages.to_poses(deserialize_message(data, PersonPoseArray))
    np.testing.assert_array_equal(again.keypoints, poses.keypoints)
    np.testing.assert_array_equal(again.ids, poses.ids)


@pytest.mark.parametrize("wrong", [2**31, -(2**31) - 1])
def test_ids_that_do_not_fit(wrong: int) -> None:
    poses = Poses.from_arrays(np.zeros((2, 4)), np.zeros(2), np.zeros((2, 17, 3)), [1, wrong])
    with pytest.raises(ValueError, match="32 bits"):
        cdr.write_pose_array(HEADER, poses, width=1, height=1, skeleton="")


# CameraInfo


def any_camera_info() -> CameraInfo:
    return CameraInfo(
        header=Header(stamp=Time(sec=-5, nanosec=4), frame_id="колір"),
        width=640,
        height=480,
        distortion_model="plumb_bob",
        d=[0.1, -2.0, math.inf, 1e-300, 5.0],
        k=[float(number) for number in range(9)],
        r=[float(number) for number in range(10, 19)],
        p=[float(number) for number in range(20, 32)],
        binning_x=2,
        binning_y=2**32 - 1,
        roi=RegionOfInterest(x_offset=1, y_offset=2, height=3, width=4, do_rectify=True),
    )


@pytest.mark.parametrize("model", ["", "a", "ab", "abc", "abcd", "rational_polynomial"])
@pytest.mark.parametrize("count", [0, 1, 5, 14])
def test_camera_info_is_what_rclpy_reads(model: str, count: int) -> None:
    message = any_camera_info()
    message.distortion_model = model
    message.d = [float(number) for number in range(count)]
    assert messages.read_camera_info(serialize_message(message)) == message


def test_fields_of_a_camera_info() -> None:
    fields = cdr.read_camera_info(serialize_message(any_camera_info()))
    assert fields.header == cdr.HeaderFields(-5, 4, "колір")
    assert (fields.width, fields.height) == (640, 480)
    assert fields.d == (0.1, -2.0, math.inf, 1e-300, 5.0)
    assert fields.roi == (1, 2, 3, 4)
    assert fields.do_rectify


def test_camera_info_of_other_encapsulations() -> None:
    """The same by hand: big endian, and version 2, in which eight bytes are aligned to four."""
    for order, second, alignment in ((">", 0, 8), ("<", 1, 8), (">", 6, 4), ("<", 7, 4)):
        body = struct.pack(f"{order}iIIBxxxIIIBxxxI", 7, 8, 1, 0, 480, 640, 1, 0, 1)
        body += bytes(-len(body) % alignment)
        body += struct.pack(f"{order}31d", *range(31))
        body += struct.pack(f"{order}6IB", 1, 2, 3, 4, 5, 6, 1)
        fields = cdr.read_camera_info(bytes([0, second, 0, 0]) + body)
        assert (fields.d, fields.p[-1], fields.roi) == ((0.0,), 30.0, (3, 4, 5, 6))


def test_every_cut_of_a_camera_info_is_refused() -> None:
    data = serialize_message(any_camera_info())
    for end in range(len(data) - 3):  # but for the padding at the end
        with pytest.raises(ImageError) as caught:
            cdr.read_camera_info(data[:end])
        assert caught.value.kind == "malformed message"


def test_a_camera_info_that_claims_more_numbers_than_it_has() -> None:
    message = any_camera_info()
    data = bytearray(serialize_message(message))
    at = data.index(b"plumb_bob\0") + 12
    assert data[at : at + 4] == b"\x05\0\0\0"
    data[at : at + 4] = b"\x60\0\0\0"
    with pytest.raises(ImageError, match="d would end at byte"):
        cdr.read_camera_info(bytes(data))
