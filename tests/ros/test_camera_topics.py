"""The topics of one camera: bytes in, bytes out, over real DDS."""

from __future__ import annotations

import struct

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")
pytest.importorskip("pose_node.msg", reason="messages missing: build the package first")

from pose_node.msg import PersonPoseArray
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from pose_node.imaging import encode_jpeg
from pose_node.ros import messages
from tests.ros.node_bench import HEIGHT, WIDTH, Bench, header, image, picture

pytestmark = pytest.mark.ros


def big_endian(header: Header, pixels: np.ndarray) -> bytes:
    """An Image as a big-endian machine sends it."""
    frame_id = header.frame_id.encode() + b"\0"
    height, width = pixels.shape[:2]
    data = struct.pack(">4xiII", header.stamp.sec, header.stamp.nanosec, len(frame_id)) + frame_id
    data += bytes(-len(data) % 4) + struct.pack(">III", height, width, 5) + b"bgr8\0\0"
    return data + bytes(-len(data) % 4) + struct.pack(">II", 3 * width, pixels.size) + bytes(pixels)


def test_header_and_pixels_come_through_bit_for_bit(bench: Bench) -> None:
    sent = image()
    sent.header.stamp.sec, sent.header.stamp.nanosec = -(2**31), 2**32 - 1
    sent.header.frame_id = "kamera_böse/光学"
    people = bench.ask(sent)
    assert people.header == sent.header
    (frame,) = bench.pipeline.frames
    np.testing.assert_array_equal(frame.image, picture())
    assert not frame.image.flags.owndata


def test_images_of_a_big_endian_machine(bench: Bench) -> None:
    people = bench.listen(PersonPoseArray, "poses")
    bench.until(lambda: bench.is_heard("poses"))
    bench.publisher(Image, "image_raw").publish(big_endian(header(), picture()))
    assert bench.get(people).header == header()
    np.testing.assert_array_equal(bench.pipeline.frames[0].image, picture())


@pytest.mark.parametrize("keep", [8, 30, 60])
def test_bytes_that_are_no_message_are_refused_and_the_next_image_is_not(
    bench: Bench, keep: int
) -> None:
    bench.publisher(Image, "image_raw").publish(serialize_message(image())[:keep])
    bench.wait_for_log("the bytes are no sensor_msgs/Image", "error")
    bench.wait_for_value("refused: malformed message", "1")
    assert bench.ask(image(1)).header == image(1).header
    assert bench.values()["received"] == "2"


def test_compressed_bytes_that_are_no_message(make_bench: type[Bench]) -> None:
    bench = make_bench(image_transport="compressed").activate()
    jpeg = messages.to_compressed_image(header(), encode_jpeg(picture()))
    cut_off = serialize_message(jpeg)[:-1]
    bench.publisher(CompressedImage, "image_raw/compressed").publish(cut_off)
    bench.wait_for_log("the bytes are no sensor_msgs/CompressedImage", "error")
    assert bench.ask(jpeg).header == jpeg.header


def test_annotated_images(bench: Bench) -> None:
    raw = bench.listen(Image, "image_annotated")
    jpeg = bench.listen(CompressedImage, "image_annotated/compressed")
    bench.until(lambda: bench.is_heard("image_annotated"))
    bench.until(lambda: bench.is_heard("image_annotated/compressed"))
    bench.ask(image())
    received = bench.get(raw)
    assert received.header == header()
    assert (received.width, received.height, received.encoding) == (WIDTH, HEIGHT, "bgr8")
    assert received.step * received.height == len(received.data)
    compressed = bench.get(jpeg)
    assert compressed.header == header()
    assert bytes(compressed.data[:3]) == b"\xff\xd8\xff"


def test_compressed_images_are_decoded_no_larger_than_needed(make_bench: type[Bench]) -> None:
    bench = make_bench(image_transport="compressed").activate()
    bench.pipeline.engine.reduction = 4
    jpeg = messages.to_compressed_image(header(), encode_jpeg(picture()))
    people = bench.ask(jpeg)
    assert (people.image_width, people.image_height) == (WIDTH, HEIGHT)
    frame = bench.pipeline.frames.pop()
    assert frame.image.shape == (HEIGHT // 4, WIDTH // 4, 3)
    assert (frame.width, frame.height, frame.reduction) == (WIDTH, HEIGHT, 4)
    bench.set_parameters(reduced_decoding=False)
    bench.ask(jpeg)
    assert bench.pipeline.frames.pop().image.shape == (HEIGHT, WIDTH, 3)


def test_annotated_images_keep_their_size(make_bench: type[Bench]) -> None:
    bench = make_bench(image_transport="compressed").activate()
    bench.pipeline.engine.reduction = 2
    jpeg = messages.to_compressed_image(header(), encode_jpeg(picture()))
    bench.publisher(CompressedImage, "image_raw/compressed")
    bench.pipeline.gate.clear()
    bench.send(jpeg)
    bench.pipeline.entered.get(timeout=30)  # decoded while nobody listened
    annotated = bench.listen(Image, "image_annotated")
    bench.until(lambda: bench.is_heard("image_annotated"))
    bench.pipeline.gate.set()
    later = messages.to_compressed_image(header(1_700_000_001), encode_jpeg(picture()))
    bench.ask(later)
    received = bench.get(annotated)
    assert received.header == later.header
    assert (received.width, received.height) == (WIDTH, HEIGHT)
    assert [frame.reduction for frame in bench.pipeline.frames] == [2, 1]
    assert annotated.empty()
